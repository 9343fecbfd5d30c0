# SPDX-License-Identifier: MIT OR Apache-2.0
# Threads, timeouts, the collector, processes, pipes and signals.
require 'open3'
require 'timeout'
$stdout.sync = true

def work(n)
  (1..n).map { |i| "word#{i * 7919 % 1013}" }.tally.values.sum
end

puts (1..4).map { |i| Thread.new { work(200_000 + i) } }.map(&:value).inspect
heard = Hash.new(0)
Signal.trap('USR1') { heard[:usr1] += 1 }
100.times do |i|
  Process.kill('USR1', Process.pid)
  sleep 0.001 until heard[:usr1] > i
end
puts "heard #{heard[:usr1]}"
20.times do |i|
  reader, writer = IO.pipe
  child = fork do
    reader.close
    writer.puts((1..500).map { |k| k * i }.join(','))
    writer.close
    exit!(i)
  end
  writer.close
  bytes = reader.read.size
  Process.wait(child)
  puts "child #{i}: #{bytes} bytes, status #{$?.exitstatus}"
end
timeouts = 10.times.count do
  Timeout.timeout(0.005) { sleep }
rescue Timeout::Error
  true
end
puts "timeouts #{timeouts}"
queue = SizedQueue.new(3)
consumer = Thread.new { 1000.times.sum { queue.pop } }
1000.times { |i| queue << i }
puts "sum #{consumer.value}"
5.times { GC.start }
puts Open3.capture2e('sh', '-c', 'cat; exit 4', stdin_data: 'to a shell').then { |out, status| "#{out} #{status.exitstatus}" }
exit 8
