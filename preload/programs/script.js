// SPDX-License-Identifier: MIT OR Apache-2.0
// Workers, the thread pool (files, compression, hashes), timers, signals, sockets and processes.
'use strict';
const { Worker, isMainThread, parentPort, workerData } = require('worker_threads');
const { execFile, fork } = require('child_process');
const { promisify } = require('util');
const crypto = require('crypto');
const fs = require('fs');
const net = require('net');
const zlib = require('zlib');

function work(n) {
    const map = new Map();
    for (let i = 0; i < n; i++)
        map.set('word' + i * 7919 % 1013, (map.get('word' + i * 7919 % 1013) || '') + 'x');
    return [...map.values()].reduce((sum, word) => sum + word.length, 0);
}

async function main() {
    console.log(await Promise.all([1, 2, 3, 4].map(i => new Promise((resolve, reject) => {
        const worker = new Worker(__filename, { workerData: 100000 + i });
        worker.once('message', resolve).once('error', reject);
    }))));

    const data = Buffer.alloc(300000, 'some words on what it is for. ');
    const hashes = await Promise.all([...Array(8).keys()].map(async i => {
        const packed = await promisify(zlib.gzip)(data.subarray(i * 1000));
        const unpacked = await promisify(zlib.gunzip)(packed);
        const key = await promisify(crypto.pbkdf2)('word', 'salt' + i, 2000, 16, 'sha256');
        return key.toString('hex') + unpacked.length;
    }));
    console.log(hashes.join('\n'));

    await Promise.all([...Array(20).keys()].map(i => fs.promises.writeFile(`out/file${i}`, 'x'.repeat(i * 1000))));
    console.log((await fs.promises.readdir('out')).length);

    // A handler alone does not keep the process.
    const awake = setInterval(() => {}, 1000);
    let heard = 0, wake = null;
    process.on('SIGUSR2', () => { heard++; wake(); });
    for (let i = 0; i < 100; i++)
        await new Promise(resolve => { wake = resolve; process.kill(process.pid, 'SIGUSR2'); });
    clearInterval(awake);
    console.log('heard', heard);

    for (let i = 0; i < 5; i++) {
        const status = await new Promise(resolve =>
            execFile('sh', ['-c', 'echo from a shell; exit 3'], (error, out) => resolve(out.trim() + ' ' + error.code)));
        console.log(status);
    }

    const server = net.createServer(socket => socket.pipe(socket));
    await new Promise(resolve => server.listen(0, '127.0.0.1', resolve));
    const echoed = await Promise.all([...Array(20).keys()].map(i => new Promise((resolve, reject) => {
        const socket = net.connect(server.address().port, '127.0.0.1');
        let bytes = 0;
        socket.on('data', chunk => bytes += chunk.length).on('end', () => resolve(bytes)).on('error', reject);
        socket.end(data.subarray(0, 10000 * i));
    })));
    console.log(echoed.join(' '));
    await new Promise(resolve => server.close(resolve));
    process.exitCode = 4;
}

if (isMainThread)
    main();
else
    parentPort.postMessage(work(workerData));
