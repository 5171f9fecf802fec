import { seeds } from './engine/seeds.js';

seeds(51, 75);
