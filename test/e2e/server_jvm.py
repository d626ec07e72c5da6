#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
# e2e: netns timeout=300
"""A JVM with 20 threads of its own that compute (and make garbage), beside those of its garbage collector and compiler, and
a socket server that knows how far each is."""
import getpass
import os
import shutil
import socket
import subprocess
import time

from e2e.system import private_dir
from _scenario import Sandbox, check, skip, write
from _server import PATIENCE, Server, connect, free_port

THREADS = 20
PROGRAM = '''
import java.io.*;
import java.net.*;
import java.util.*;
import java.util.concurrent.*;
import java.util.concurrent.atomic.*;

public class Busy {
        static final int THREADS = 20;
        static final AtomicLongArray steps = new AtomicLongArray(THREADS);
        static final AtomicLong ticks = new AtomicLong();
        static volatile String wrong = "";
        static final BlockingQueue<SynchronousQueue<Long>> questions = new LinkedBlockingQueue<>();

        static void compute(int me) {
                Map<Integer, String> map = new HashMap<>();
                long x = me, check = me;
                for (;;) {
                        for (int i = 0; i < 2000; i++) {
                                x = x * 6364136223846793005L + 1442695040888963407L;
                                map.put((int) (x >>> 33) % 5000, Long.toHexString(x));
                        }
                        for (int i = 0; i < 2000; i++)
                                check = check * 6364136223846793005L + 1442695040888963407L;
                        if (check != x || !map.get((int) (x >>> 33) % 5000).equals(Long.toHexString(x)))
                                wrong = "thread " + me + " miscalculates";
                        try {
                                Object o = me % 2 == 0 ? null : map;
                                if (o.hashCode() == 7)   /* null: the JVM makes an exception of SIGSEGV */
                                        wrong = "";
                        } catch (NullPointerException e) {
                                check = x;
                        }
                        steps.incrementAndGet(me);
                        try {
                                Thread.sleep(1);
                        } catch (InterruptedException e) {
                                wrong = "thread " + me + " is interrupted";
                        }
                }
        }

        static void serve(Socket socket) {
                try (socket; BufferedReader in = new BufferedReader(new InputStreamReader(socket.getInputStream()));
                     PrintWriter out = new PrintWriter(socket.getOutputStream())) {
                        String line;
                        for (long n = 1; (line = in.readLine()) != null; n++) {
                                StringBuilder s = new StringBuilder();
                                SynchronousQueue<Long> answer = new SynchronousQueue<>();
                                questions.add(answer);
                                Long squared = answer.poll(20, TimeUnit.SECONDS);
                                s.append(n).append(' ').append(line).append(' ').append(ticks.get()).append(' ');
                                s.append(squared).append(' ');
                                for (int i = 0; i < THREADS; i++)
                                        s.append(steps.get(i)).append(' ');
                                out.print(s.append(wrong).append('\\n'));
                                out.flush();
                        }
                } catch (IOException | InterruptedException e) {
                        wrong = e.toString();
                }
        }

        public static void main(String[] args) throws Exception {
                for (int i = 0; i < THREADS; i++) {
                        final int me = i;
                        new Thread(() -> compute(me), "compute-" + i).start();
                }
                new Thread(() -> {
                        for (long n = 0; ; n++)
                                try {
                                        questions.take().put(n * n);
                                } catch (InterruptedException e) {
                                        wrong = e.toString();
                                }
                }).start();
                Executors.newScheduledThreadPool(1).scheduleAtFixedRate(ticks::incrementAndGet, 10, 10, TimeUnit.MILLISECONDS);
                try (ServerSocket s = new ServerSocket(Integer.parseInt(args[0]), 50, InetAddress.getByName("127.0.0.1"))) {
                        for (;;) {
                                Socket socket = s.accept();
                                new Thread(() -> serve(socket)).start();
                        }
                }
        }
}
'''


def ask(client):
    """All threads go on and none goes back; so does the timer."""
    with connect(port) as s, s.makefile('rb') as f:
        n, ticks, squared, steps = 0, 0, -1, [0] * THREADS
        moved = time.monotonic()
        while client.goes_on():
            n += 1
            s.sendall(b'question-%d\n' % n)
            words = f.readline().decode().split(' ', 4 + THREADS)
            check(words[0] == str(n) and words[1] == f'question-{n}' and words[-1] == '\n', f'question {n}: got {words}')
            now = [int(word) for word in words[4:-1]]
            check(int(words[2]) >= ticks and int(words[3]) > squared and len(now) == THREADS, f'question {n}: got {words}')
            check(all(a >= b for a, b in zip(now, steps)), f'threads went back from {steps} to {now}')
            if int(words[2]) > ticks and all(a > b for a, b in zip(now, steps)):
                ticks, steps, moved = int(words[2]), now, time.monotonic()
                client.answered(10)
            client.answered()
            check(time.monotonic() - moved < PATIENCE, f'a thread or the timer stands still: {words[2]} ticks, {steps}, {now}')
            squared = int(words[3])


sb = Sandbox.from_env()
JAVA, JAVAC = (shutil.which(name) or skip(f'there is no {name}') for name in ('java', 'javac'))
write(sb.path('Busy.java'), PROGRAM)
subprocess.run([JAVAC, '-d', sb.path(), sb.path('Busy.java')], check=True)
# Every JVM that starts removes what those of its user have left there, by pids that are alive where it looks.
private_dir(f'/tmp/hsperfdata_{getpass.getuser()}')
port = free_port()
server = Server(sb, 'jvm', [JAVA, '-Xms96m', '-Xmx96m', '-XX:+AlwaysPreTouch', '-cp', sb.path(), 'Busy', str(port)], port, varies=['Threads', 'fds'])
server.add_client(ask)
server.add_client(ask)
server.run()
server.stop()
