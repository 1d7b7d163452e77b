package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"syscall"
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
	err := cmd.Run()
	wall := time.Since(start)
	if err != nil {
		tail := out.Bytes()
		return usage{}, fmt.Errorf("%s: %w: %s", name, err, tail[max(0, len(tail)-2000):])
	}
	ru, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	if !ok {
		return usage{}, fmt.Errorf("%s: this system reports no resource usage", name)
	}
	return usage{
		wall:    wall,
		cpu:     cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(),
		peakKiB: ru.Maxrss, // KiB on Linux
	}, nil
}
