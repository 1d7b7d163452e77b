package streams

import (
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/caly-dev/caly/internal/testkit/calytest"
	"github.com/caly-dev/caly/internal/testkit/eventually"
	"github.com/caly-dev/caly/internal/testkit/fleet"
	"github.com/caly-dev/caly/internal/testkit/pgtest"
)

// knee is how far a measurement goes.
type knee struct {
	sizes []int
	lasts time.Duration
	p99   time.Duration
}

// TestStreamsKnee measures rather than tests: ever more calls at once, until a frame comes back too late or not at all. It prints what
// each number of calls took, and how many a core of the data plane would carry. Run it with make bench-streams.
func TestStreamsKnee(t *testing.T) {
	if os.Getenv("CALY_KNEE_CALLS") == "" {
		t.Skip("it takes minutes and measures: make bench-streams")
	}
	k := knee{
		sizes: sized(t, "CALY_KNEE_CALLS", nil, numbers),
		lasts: sized(t, "CALY_KNEE_FOR", 10*time.Second, time.ParseDuration),
		p99:   sized(t, "CALY_KNEE_P99", 5*time.Millisecond, time.ParseDuration),
	}
	echo, address := echoAgent(t)
	pod := newStreamPod(t, pgtest.New(t), "measured", "ws://"+address+"/stream", 20_000).run()
	t.Logf("on %s; each run lasts %s and the last one is that whose p99 is above %s", machine(), k.lasts, k.p99)
	for _, pace := range []time.Duration{20 * time.Millisecond, 100 * time.Millisecond} {
		t.Logf("frames of %s", pace)
		t.Log(
			"calls frames/s   p50    p99  straight to the agent: p50 p99   cores of data plane, agent, callers   " +
				"us/frame  KiB/call  calls/core",
		)
		for _, calls := range k.sizes {
			if !k.measure(t, pod, echo, address, calls, pace) {
				break
			}
		}
	}
}

func numbers(text string) (list []int, err error) {
	for field := range strings.FieldsSeq(text) {
		n, err := strconv.Atoi(field)
		if err != nil {
			return nil, err
		}
		list = append(list, n)
	}
	return list, nil
}

// measure one number of calls; false where there is no use in more.
func (k knee) measure(
	t *testing.T,
	pod *streamPod,
	echo *calytest.Process,
	address string,
	calls int,
	pace time.Duration,
) bool {
	t.Helper()
	straight, err := fleet.Dial(t.Context(), fleet.Options{Address: address, Path: "/stream", Calls: calls, Pace: pace})
	if err != nil {
		t.Logf("%5d calls cannot be opened straight to the agent: %v", calls, err)
		return false
	}
	alone := straight.Talk(t.Context(), k.lasts/3, patience)
	straight.Close()
	empty := pod.residentKiB()
	f, err := pod.calls(calls, "knee", pace)
	if err != nil {
		t.Logf("%5d calls cannot be opened: %v", calls, err)
		return false
	}
	defer f.Close()
	begin := time.Now()
	before := pod.CPU()
	agentBefore := echo.CPU()
	ownBefore := ownCPU()
	report := f.Talk(t.Context(), k.lasts, patience)
	took := time.Since(begin).Seconds()
	cores := (pod.CPU() - before).Seconds() / took
	agent := (echo.CPU() - agentBefore).Seconds() / took
	own := (ownCPU() - ownBefore).Seconds() / took
	frames := float64(2 * report.Sent) // there and back
	each := cores * took / frames
	t.Logf(
		"%5d %8.0f %7s %7s %7s %7s   %.2f %.2f %.2f   %5.1f   %5.1f   %5.0f",
		calls,
		frames/took,
		brief(report.Quantile(.5)),
		brief(report.Quantile(.99)),
		brief(alone.Quantile(.5)),
		brief(alone.Quantile(.99)),
		cores,
		agent,
		own,
		each*1e6,
		float64(pod.residentKiB()-empty)/float64(calls),
		pace.Seconds()/2/each,
	)
	end := f.HangUp(t.Context(), patience)
	eventually.Holds(t, "no stream is live", func() bool { return pod.Metric("caly_stream_sessions_live") == 0 })
	switch {
	case report.Err() != nil:
		t.Logf("%5d calls are too many: %v", calls, report.Err())
	case end.Codes[1000] != calls:
		t.Errorf("%d calls were closed with %v", calls, end.Codes)
	case report.Quantile(.99) > k.p99:
		t.Logf("%5d calls are too many: p99 is above %s", calls, k.p99)
	default:
		return true
	}
	return false
}

func brief(d time.Duration) string { return strconv.FormatFloat(d.Seconds()*1000, 'f', 2, 64) + "ms" }

func ownCPU() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
