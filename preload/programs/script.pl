# SPDX-License-Identifier: MIT OR Apache-2.0
# Processes, pipes, signals, alarms and interpreter threads.
use strict;
use warnings;
use POSIX ();
use threads;
use threads::shared;
$| = 1;

my %heard = (CHLD => 0, USR1 => 0, ALRM => 0);
$SIG{$_} = do { my $name = $_; sub { $heard{$name}++ } } for qw(USR1 ALRM);
for my $i (1 .. 20) {
    pipe(my $from, my $to) or die "pipe: $!";
    my $child = fork // die "fork: $!";
    if (!$child) {
        close $from;
        print $to join(',', map { $_ * $i } 1 .. 500), "\n";
        close $to;
        POSIX::_exit($i);
    }
    close $to;
    my $line = <$from>;
    waitpid($child, 0) == $child or die "waitpid: $!";
    print "child $i: ", length($line), " bytes, status ", $? >> 8, "\n";
}
for (1 .. 100) {
    my $before = $heard{USR1};
    kill 'USR1', $$;
    select undef, undef, undef, 0.001 while $heard{USR1} == $before;
}
print "USR1 $heard{USR1}\n";
for (1 .. 20) {
    my $before = $heard{ALRM};
    POSIX::alarm(0);
    require Time::HiRes;
    Time::HiRes::ualarm(2000);
    Time::HiRes::usleep(1000) while $heard{ALRM} == $before;
}
print "ALRM $heard{ALRM}\n";
print `echo from a shell`, "status ", system('sh', '-c', 'exit 5') >> 8, "\n";

my $sum : shared = 0;
sub work {
    my %words;
    $words{"word" . ($_ * 7919 % 1013)} .= 'x' for 1 .. 200000;
    { lock $sum; $sum += length join '', values %words; }
    return scalar keys %words;
}
print join(' ', map { $_->join } map { threads->create(\&work) } 1 .. 4), " $sum\n";
exit 6;
