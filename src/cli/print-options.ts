import { renderDocumentation } from '../config/render.js';

process.stdout.write(renderDocumentation());
