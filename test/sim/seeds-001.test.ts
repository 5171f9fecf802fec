import { seeds } from './engine/seeds.js';

seeds(1, 25);
