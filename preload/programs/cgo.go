// SPDX-License-Identifier: MIT OR Apache-2.0

// A small program with what Go uses signals for: preemption of loops that call nothing (SIGURG, sent by
// tgkill), the program's own handlers, and calls of C that block.
package main

/*
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int work(int n)
{
    int sum = 0;

    for (int i = 0; i < n; i++) {
        char *block = malloc(100 + i % 1000);

        memset(block, i, 100);
        sum += block[99];
        free(block);
    }
    usleep(1000);
    return sum;
}
*/
import "C"

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"sync"
	"syscall"
	"time"
)

var sink uint64

// Nothing in it but the preemption signal lets the collector stop it.
func spin(n uint64) {
	x := n | 1
	for i := uint64(0); i < n; i++ {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
	}
	sink += x
}

func collect() {
	var wait sync.WaitGroup
	for i := 0; i < 3; i++ {
		wait.Add(1)
		go func() {
			spin(300000000)
			wait.Done()
		}()
	}
	for i := 0; i < 20; i++ {
		runtime.GC()
	}
	wait.Wait()
	fmt.Println("collected")
}

func callC() {
	results := make(chan int)
	for i := 0; i < 8; i++ {
		go func(n int) {
			sum := 0
			for k := 0; k < 20; k++ {
				sum += int(C.work(C.int(n * 500)))
			}
			results <- sum
		}(i)
	}
	sum := 0
	for i := 0; i < 8; i++ {
		sum += <-results
	}
	fmt.Println("C says", sum)
}

func hear() {
	heard := make(chan os.Signal, 1)
	signal.Notify(heard, syscall.SIGUSR1)
	for i := 0; i < 200; i++ {
		syscall.Kill(os.Getpid(), syscall.SIGUSR1)
		select {
		case <-heard:
		case <-time.After(time.Minute):
			fmt.Println("a signal is lost")
			os.Exit(1)
		}
	}
	fmt.Println("heard 200")
}

func main() {
	runtime.GOMAXPROCS(4)
	collect()
	callC()
	hear()
	for i := 0; i < 5; i++ {
		out, err := exec.Command("sh", "-c", "echo from a shell; exit 3").Output()
		fmt.Print(string(out), err, "\n")
	}
	os.Exit(9)
}
