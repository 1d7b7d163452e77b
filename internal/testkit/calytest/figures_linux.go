package calytest

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// CPU is the time that the process has used. The kernel counts in hundredths of a second.
func (p *Process) CPU() time.Duration {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.PID()))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(data), ") ") // the name may hold anything
	fields := strings.Fields(rest)
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond
}

var (
	resident  = regexp.MustCompile(`(?m)^VmRSS:\s+(\d+) kB$`)
	highWater = regexp.MustCompile(`(?m)^VmHWM:\s+(\d+) kB$`)
)

// Resident is the memory of the process, in bytes; 0 after its end.
func (p *Process) Resident() int64 {
	n, _ := p.memory(resident)
	return n
}

// PeakMemory is the most memory that the process has had resident, in bytes.
func (p *Process) PeakMemory() int64 {
	p.t.Helper()
	n, err := p.memory(highWater)
	if err != nil {
		p.t.Fatal(err)
	}
	return n
}

func (p *Process) memory(line *regexp.Regexp) (int64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID()))
	if err != nil {
		return 0, err
	}
	found := line.FindSubmatch(status)
	if found == nil {
		return 0, fmt.Errorf("no line of %s matches %s", status, line)
	}
	kib, err := strconv.ParseInt(string(found[1]), 10, 64)
	return kib << 10, err
}

// Descriptors is the number of files and sockets that the process has open.
func (p *Process) Descriptors() int {
	list, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", p.PID()))
	if err != nil {
		return 0
	}
	return len(list)
}
