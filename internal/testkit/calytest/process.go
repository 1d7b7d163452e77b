package calytest

import (
	"errors"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/caly-dev/caly/internal/testkit/logtest"
)

// Process is the program while it runs, and what it printed.
type Process struct {
	t         testing.TB
	cmd       *exec.Cmd
	out, errs logtest.Buffer
	ended     chan struct{}
	err       error
}

// Start starts the program. It ends with the test at the latest.
func Start(t testing.TB, env []string, args ...string) *Process {
	t.Helper()
	return StartFile(t, program(t), env, args...)
}

// StartFile starts the program from a file.
func StartFile(t testing.TB, file string, env []string, args ...string) *Process {
	t.Helper()
	process := &Process{t: t, cmd: exec.Command(file, args...), ended: make(chan struct{})}
	process.cmd.Env = append([]string{asProgram + "=1", "HOME=" + t.TempDir()}, env...)
	process.cmd.Stdout = &process.out
	process.cmd.Stderr = &process.errs
	if err := process.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { process.err = process.cmd.Wait(); close(process.ended) }()
	t.Cleanup(func() {
		process.Kill()
		<-process.ended
	})
	return process
}

// End waits for the end, at most a minute, and returns the exit status.
func (p *Process) End() int {
	p.t.Helper()
	timer := time.AfterFunc(time.Minute, p.Kill)
	defer timer.Stop()
	<-p.ended
	var exit *exec.ExitError
	if p.err != nil && !errors.As(p.err, &exit) {
		p.t.Fatal(p.err)
	}
	return p.cmd.ProcessState.ExitCode()
}

// Ended is closed after the end.
func (p *Process) Ended() <-chan struct{} { return p.ended }

// Terminate sends SIGTERM, as a kubelet does first.
func (p *Process) Terminate() {
	p.t.Helper()
	p.signal(syscall.SIGTERM)
}

// Interrupt sends SIGINT, as a terminal does.
func (p *Process) Interrupt() {
	p.t.Helper()
	p.signal(os.Interrupt)
}

func (p *Process) signal(s os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// Kill sends SIGKILL. A process that has ended stays as it is.
func (p *Process) Kill() { _ = p.cmd.Process.Kill() }

// PID is the id of the process.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Out is what was printed to the standard output until now.
func (p *Process) Out() string { return p.out.String() }

// Errs is what was printed to the standard error until now.
func (p *Process) Errs() string { return p.errs.String() }

// Printed is all that was printed until now.
func (p *Process) Printed() string { return p.Out() + p.Errs() }

// MaxMemory is the most memory that the process had resident, in bytes. Call it after the end.
func (p *Process) MaxMemory() int64 {
	p.t.Helper()
	usage, ok := p.cmd.ProcessState.SysUsage().(*syscall.Rusage)
	if !ok {
		p.t.Fatal("the memory of the process is not known")
	}
	return usage.Maxrss << 10 // Linux counts in KiB
}
