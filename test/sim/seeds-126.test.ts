import { seeds } from './engine/seeds.js';

seeds(126, 150);
