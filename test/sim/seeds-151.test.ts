import { seeds } from './engine/seeds.js';

seeds(151, 175);
