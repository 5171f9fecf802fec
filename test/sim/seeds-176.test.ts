import { seeds } from './engine/seeds.js';

seeds(176, 200);
