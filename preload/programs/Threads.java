// SPDX-License-Identifier: MIT OR Apache-2.0
// A small program with what a JVM uses signals and threads for: collections (safepoints), null pointers and
// deep stacks (SIGSEGV), timed waits and interrupts, the program's own handlers, processes.
import java.util.ArrayList;
import java.util.List;
import java.util.TreeMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.locks.ReentrantLock;

public class Threads {
    static final ReentrantLock lock = new ReentrantLock();
    static long total;

    static long allocate(int seed) {
        TreeMap<Integer, byte[]> map = new TreeMap<>();
        long sum = 0;
        for (int i = 0; i < 60000; i++) {
            seed = seed * 1103515245 + 12345;
            map.put(seed >>> 20, new byte[(seed >>> 16) & 511]);
            if (map.size() > 1000)
                sum += map.pollFirstEntry().getValue().length;
            if ((i & 1023) == 0) {
                lock.lock();
                try {
                    total++;
                } finally {
                    lock.unlock();
                }
            }
        }
        return sum;
    }

    static int nulls() {
        int caught = 0;
        for (int i = 0; i < 20000; i++) {
            Integer nothing = (i & 1) == 0 ? null : i;
            try {
                caught += nothing.intValue() & 0;
            } catch (NullPointerException e) {
                caught++;
            }
        }
        return caught;
    }

    static int depth(int n) {
        return depth(n + 1) + 1;
    }

    static String overflow() {
        try {
            return "" + depth(0);
        } catch (StackOverflowError e) {
            return "stack overflow";
        }
    }

    public static void main(String[] arguments) throws Exception {
        ExecutorService pool = Executors.newFixedThreadPool(4);
        List<Future<Long>> sums = new ArrayList<>();
        for (int i = 0; i < 8; i++) {
            int seed = i;
            sums.add(pool.submit(() -> allocate(seed)));
        }
        for (Future<Long> sum : sums)
            System.out.println(sum.get());
        System.out.println("locked " + total);
        System.out.println("nulls " + pool.submit(Threads::nulls).get() + " " + nulls());
        System.out.println(overflow());

        CountDownLatch heard = new CountDownLatch(1);
        sun.misc.Signal.handle(new sun.misc.Signal("USR2"), s -> heard.countDown());
        sun.misc.Signal.raise(new sun.misc.Signal("USR2"));
        System.out.println("heard " + heard.await(60, TimeUnit.SECONDS));

        AtomicInteger interrupted = new AtomicInteger();
        for (int i = 0; i < 20; i++) {
            Thread sleeper = new Thread(() -> {
                try {
                    Thread.sleep(60000);
                } catch (InterruptedException e) {
                    interrupted.incrementAndGet();
                }
            });
            sleeper.start();
            sleeper.interrupt();
            sleeper.join();
        }
        System.out.println("interrupted " + interrupted);
        for (int i = 0; i < 3; i++) {
            Process child = new ProcessBuilder("sh", "-c", "echo from a shell; exit 3").start();
            System.out.print(new String(child.getInputStream().readAllBytes()));
            System.out.println("status " + child.waitFor());
        }
        for (int i = 0; i < 5; i++)
            System.gc();
        pool.shutdown();
        System.exit(pool.awaitTermination(60, TimeUnit.SECONDS) ? 7 : 1);
    }
}
