package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"time"
)

// usage of one finished process.
type usage struct {
	wall, cpu time.Duration
	peakKiB   int64
}

func (u usage) String() string {
	return fmt.Sprintf("wall %.2fs cpu %.2fs peak %.0fMiB", u.wall.Seconds(), u.cpu.Seconds(), float64(u.peakKiB)/1024)
}

// measure runs a command to its end; what it wrote is shown only when it fails.
func measure(ctx context.Context, name string, args, env []string) (usage, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.Env = append(os.Environ(), env...)
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return usage{}, err
	}
	peak, ended := make(chan int64), make(chan struct{})
	go func() { peak <- followPeak(cmd.Process.Pid, ended) }()
	err := cmd.Wait()
	wall := time.Since(start)
	close(ended)
	peakKiB := <-peak
	if err != nil {
		tail := out.Bytes()
		return usage{}, fmt.Errorf("%s: %w: %s", name, err, tail[max(0, len(tail)-2000):])
	}
	if peakKiB == 0 {
		return usage{}, fmt.Errorf("%s: this system does not tell a process's peak memory", name)
	}
	return usage{
		wall:    wall,
		cpu:     cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(),
		peakKiB: peakKiB,
	}, nil
}

var highWater = regexp.MustCompile(`VmHWM:\s+(\d+) kB`)

// followPeak reads a process's high-water mark, in KiB, until it has ended. What getrusage says of a child is at least what its
// parent had when it started it, which here is more than an upload pod has.
func followPeak(pid int, ended <-chan struct{}) (kib int64) {
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for {
		status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid)) // gone: the mark of before counts
		if m := highWater.FindSubmatch(status); m != nil {
			n, _ := strconv.ParseInt(string(m[1]), 10, 64) // digits
			kib = max(kib, n)
		}
		select {
		case <-ended:
			return kib
		case <-ticker.C:
		}
	}
}
