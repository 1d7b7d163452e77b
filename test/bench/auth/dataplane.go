package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	publicAddress   = "127.0.0.1:17094"
	internalAddress = "127.0.0.1:17095"
	// memoryLimit is the chart's.
	memoryLimit = "256MiB"
)

// dataPlane is bin/caly dataplane under way.
type dataPlane struct{ cmd *exec.Cmd }

// startDataPlane returns once it is ready. Its limits are the built-in ones, but for those of signed-in users: they are what is measured.
func startDataPlane(ctx context.Context, o options, kubeconfig string) (*dataPlane, error) {
	cmd := exec.CommandContext(
		ctx,
		o.caly,
		"dataplane",
		"--work-namespace="+namespace,
		"--listen="+publicAddress,
		"--internal-listen="+internalAddress,
		"--drain-delay=0s",
		"--grace=5s",
		"--limit=api=1000/1s",
	)
	cmd.Env = []string{
		"KUBECONFIG=" + kubeconfig,
		"CALY_DATABASE_URL=" + o.dsnDataplane,
		"GOMEMLIMIT=" + memoryLimit,
		"HOME=/nonexistent",
	}
	log := &tail{}
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	d := &dataPlane{cmd}
	err := until(ctx, "it is not ready", func() error { return ready(ctx) })
	if err != nil {
		d.stop()
		return nil, fmt.Errorf("%w; it says: %s", err, log.kept)
	}
	return d, nil
}

// ready returns nil once the pod serves and has read the keys.
func ready(ctx context.Context) error {
	for _, url := range []string{"http://" + internalAddress + "/readyz", "http://" + publicAddress + "/.well-known/jwks.json"} {
		q, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		answer, err := http.DefaultClient.Do(q)
		if err != nil {
			return err
		}
		_ = answer.Body.Close()
		if answer.StatusCode != http.StatusOK {
			return errors.New(answer.Status)
		}
	}
	return nil
}

func (d *dataPlane) stop() {
	_ = d.cmd.Process.Signal(syscall.SIGTERM)
	_ = d.cmd.Wait()
}

// tail keeps the beginning of what the server says, for an error.
type tail struct{ kept []byte }

// Write implements io.Writer.
func (t *tail) Write(b []byte) (int, error) {
	t.kept = append(t.kept, b[:min(len(b), 4096-min(len(t.kept), 4096))]...)
	return len(b), nil
}

// memory of a process in MB: what is resident now and the most that ever was, and how much of it now is its own, not the program's file.
type memory struct{ now, peak, own float64 }

func (m memory) String() string {
	return fmt.Sprintf("%3.0f MB, %3.0f its own (peak %.0f)", m.now, m.own, m.peak)
}

func (d *dataPlane) memory() (m memory) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", d.cmd.Process.Pid))
	if err != nil {
		return m
	}
	for line := range strings.Lines(string(status)) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		kb, _ := strconv.ParseFloat(fields[1], 64)
		switch fields[0] {
		case "VmRSS:":
			m.now = kb / 1024
		case "VmHWM:":
			m.peak = kb / 1024
		case "RssAnon:":
			m.own = kb / 1024
		}
	}
	return m
}

// mostOwn watches until stop is called, which returns the most memory that was the process's own: what a container's limit is about.
func (d *dataPlane) mostOwn() (stop func() float64) {
	done, most := make(chan struct{}), make(chan float64)
	go func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		top := 0.0
		for {
			top = max(top, d.memory().own)
			select {
			case <-tick.C:
			case <-done:
				most <- top
				return
			}
		}
	}()
	return func() float64 { close(done); return <-most }
}
