import { seeds } from './engine/seeds.js';

seeds(101, 125);
