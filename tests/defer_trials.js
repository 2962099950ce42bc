// The GPU scheduler that refuses a third of all trials for the moment, as it does when no GPU is free.
'use strict';
const Module = require('module');
const load = Module._load;
let count = 0;
Module._load = function (...args) {
    const loaded = load.apply(this, args);
    if (loaded && loaded.TaskSchedulerClient && !loaded.TaskSchedulerClient.prototype.stock) {
        const client = loaded.TaskSchedulerClient.prototype;
        client.stock = client.schedule;
        client.schedule = async function (...given) {
            count += 1;
            return count % 3 === 2 ? null : this.stock(...given);
        };
    }
    return loaded;
};
