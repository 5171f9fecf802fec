/** A program that owns a lab and waits for its end; prints {"name", "sleeper"}: the lab's name and a process in it. */
import { createLab } from '../../chaos/lab/index.js';

const lab = await createLab();
const host = await lab.publicHost('host', { ipv4: '198.51.100.1' });
const sleeper = host.spawn(['sleep', '600']);
console.log(JSON.stringify({ name: lab.name, sleeper: sleeper.pid }));
setInterval(() => undefined, 60_000);
