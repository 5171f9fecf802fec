import { seeds } from './engine/seeds.js';

seeds(76, 100);
