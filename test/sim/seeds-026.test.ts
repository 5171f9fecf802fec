import { seeds } from './engine/seeds.js';

seeds(26, 50);
