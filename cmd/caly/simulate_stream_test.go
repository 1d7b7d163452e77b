package main

import (
	"context"
	"errors"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caly-dev/caly/internal/simulator/agentsim"
	"github.com/caly-dev/caly/internal/simulator/exotelsim"
	"github.com/caly-dev/caly/internal/testkit/calytest"
	"github.com/caly-dev/caly/internal/testkit/certtest"
	"github.com/caly-dev/caly/internal/testkit/eventually"
	"github.com/caly-dev/caly/internal/testkit/logtest"
	"github.com/caly-dev/caly/internal/wav"
)

var echoingAt = regexp.MustCompile(`echoing at (wss?://\S+) `)

// agentEcho runs "caly agent echo" until the test ends, and returns its URL.
func agentEcho(t *testing.T, args ...string) string {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	cmd := newRootCommand()
	out := &logtest.Buffer{}
	end := make(chan error, 1)
	cmd.SetArgs(append([]string{"agent", "echo", "--listen=127.0.0.1:0"}, args...))
	cmd.SetOut(out)
	go func() { end <- cmd.ExecuteContext(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-end; err != nil {
			t.Errorf("agent echo ended with %v", err)
		}
	})
	eventually.Holds(t, "agent echo begins", func() bool { return strings.Contains(out.String(), "\n") })
	found := echoingAt.FindStringSubmatch(out.String())
	if found == nil {
		t.Fatalf("agent echo prints %q", out.String())
	}
	return found[1]
}

func newAgent(t *testing.T, o agentsim.Options) *agentsim.Server {
	t.Helper()
	server, err := agentsim.NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	return server
}

// certificate of a host, and its key, in files.
func certificate(t *testing.T) (cert, key string) {
	t.Helper()
	cert, key = certtest.Pair(t, 1)
	return write(t, cert), write(t, key)
}

// wavFile of noise.
func wavFile(t *testing.T, rate, samples int) string {
	t.Helper()
	pcm := exotelsim.Noise(samples)
	return write(t, string(append(wav.Header(rate, len(pcm)), pcm...)))
}

// TestSimulateStream against the echo agent: both are the commands themselves.
func TestSimulateStream(t *testing.T) {
	plain := agentEcho(t)
	cert, key := certificate(t)
	secure := agentEcho(t, "--tls-cert-file="+cert, "--tls-key-file="+key)
	to := "--url=" + plain
	eightKHz := "--wav=" + wavFile(t, 8000, 2400) // 300 ms
	for name, tc := range map[string]struct {
		args []string
		want string // of the last line
	}{
		"a file, once": {[]string{to, eightKHz},
			"1 calls, 0 failed, 0 ended early, 0 incomplete: sent 15 frames (4800 bytes), received 15 (4800): 4800 " +
				"equal, 0 wrong, 0 lost, 0 missing, 0 extra; "},
		"several calls, compared": {[]string{to, eightKHz, "--calls=5", "--ramp=50ms", "--expect-echo"},
			"5 calls, 0 failed, 0 ended early, 0 incomplete: sent 75 frames (24000 bytes), received 75 (24000): " +
				"24000 equal, 0 wrong, 0 lost, 0 missing, 0 extra; "},
		"longer, in large frames, in strings": {[]string{
			to, eightKHz, "--duration=400ms", "--pace=100ms", "--quoting=strings", "--expect-echo=exact",
		},
			"1 calls, 0 failed, 0 ended early, 0 incomplete: sent 4 frames (6400 bytes), received 4 (6400): 6400 " +
				"equal, "},
		"with every oddity": {[]string{
			to, eightKHz, "--quirks=camel-case,no-connected,binary,extra-keys,odd-sizes", "--digits=12",
			"--expect-echo",
		},
			"1 calls, 0 failed, 0 ended early, 0 incomplete: sent 15 frames (4800 bytes), received 15 (4800): 4800 " +
				"equal, "},
		"a file at its own rate": {[]string{to, "--wav=" + wavFile(t, 24000, 2400), "--expect-echo"},
			"1 calls, 0 failed, 0 ended early, 0 incomplete: sent 5 frames (4800 bytes), "},
		"a file at another rate": {[]string{to, eightKHz, "--rate=16000", "--expect-echo"},
			"1 calls, 0 failed, 0 ended early, 0 incomplete: sent 15 frames (9600 bytes), received 15 (9600): 9600 " +
				"equal, "},
		"noise over TLS, the URL from a file": {[]string{"--url-file=" + write(t,
			strings.Replace(secure, "://", "://key:topsecret@", 1)+"\n"),
			"--ca-file=" + cert,
			"--duration=100ms", "--expect-echo"}, "1 calls, 0 failed, 0 ended early, 0 incomplete: sent 5 frames " +
			"(1600 bytes), "},
	} {
		t.Run(name, func(t *testing.T) {
			result := execute(t, append([]string{"simulate", "stream"}, tc.args...)...)
			lines := strings.Split(strings.TrimSuffix(result.out, "\n"), "\n")
			if result.err != nil || !strings.HasPrefix(lines[len(lines)-1], tc.want) ||
				strings.Contains(result.out+result.errs, "topsecret") {
				t.Errorf("%v; it prints %q, want %q", result.err, lines[len(lines)-1], tc.want)
			}
			for _, line := range lines[:len(lines)-1] {
				if !strings.HasPrefix(line, "call ") || !strings.HasSuffix(line, ", closed with 1000") {
					t.Errorf("a call's line is %q", line)
				}
			}
		})
	}
}

// TestSimulateStreamFinds what is wrong, and ends with an error.
func TestSimulateStreamFinds(t *testing.T) {
	eightKHz := "--wav=" + wavFile(t, 8000, 1600) // 200 ms
	for name, tc := range map[string]struct {
		o    agentsim.Options
		args []string
		says string
		line string // of a call
	}{
		"a refusal": {
			agentsim.Options{Refuse: 503},
			[]string{"--calls=2"},
			"2 calls could not be opened",
			"the handshake was answered 503",
		},
		"an early end": {agentsim.Options{CloseAfter: 3, CloseCode: 4001}, nil, "1 calls ended before their time",
			", closed with 4001 before its time"},
		"an early end without a close": {agentsim.Options{DropAfter: 3}, []string{"--expect-echo"},
			"1 calls ended before their time; 1 calls did not get back what they sent",
			", closed with 1006 before its time"},
		"silence": {
			agentsim.Options{Silent: true},
			[]string{"--expect-echo", "--linger=10ms"},
			"1 calls did not get back what they sent",
			"received 0 (0): 0 equal, 0 wrong, 0 lost, 3200 missing"},
		"another audio": {
			agentsim.Options{},
			[]string{"--expect-echo=mulaw"},
			"1 calls did not get back what they sent",
			" wrong",
		},
		"nonsense": {
			agentsim.Options{Protocol: "pcm"},
			[]string{"--quirks=binary"},
			"messages were none that Exotel understands",
			"invalid messages (a binary message)"},
	} {
		t.Run(name, func(t *testing.T) {
			server := newAgent(t, tc.o)
			result := execute(
				t,
				append([]string{"simulate", "stream", "--url=" + server.URL(), eightKHz, "--ramp=0"}, tc.args...)...)
			checkFailure(t, result, tc.says)
			if !strings.Contains(result.out, tc.line) || !strings.Contains(result.out, " calls, ") {
				t.Errorf("it prints %q, want %q", result.out, tc.line)
			}
		})
	}
}

func TestSimulateStreamFails(t *testing.T) {
	to := "--url=ws://" + calytest.FreeAddress(t) + "/x"
	file := wavFile(t, 16000, 100)
	for name, tc := range map[string]struct {
		args []string
		says string
	}{
		"nowhere": {nil, "give --url, --url-file or --tenant, one of them"},
		"two places": {
			[]string{to, "--url-file=" + write(t, "ws://topsecret")},
			"give --url, --url-file or --tenant, one of them",
		},
		"no such file of URLs": {[]string{"--url-file=/nowhere/url"}, "/nowhere/url"},
		"a password in argv":   {[]string{"--url=wss://key:topsecret@example.com/"}, "give that with --url-file"},
		"no calls":             {[]string{to, "--calls=0"}, "--calls must be at least 1"},
		"strange pace":         {[]string{to, "--pace=1ms"}, "--pace must be between 10ms and 1s"},
		"strange quoting":      {[]string{to, "--quoting=none"}, `--quoting "none" is neither numbers nor strings`},
		"strange quirk":        {[]string{to, "--quirks=camel-case,odd"}, `--quirks "odd" is not one of camel-case`},
		"strange echo":         {[]string{to, "--expect-echo=opus"}, `--expect-echo "opus" is neither exact nor mulaw`},
		"mu-law at 16 kHz": {
			[]string{to, "--expect-echo=mulaw", "--rate=16000"},
			"--expect-echo=mulaw needs --rate=8000",
		},
		"strange rate":       {[]string{to, "--rate=44100"}, "--rate 44100 is not one of 8000, 16000, 24000"},
		"no such WAV":        {[]string{to, "--wav=/nowhere/a.wav"}, "/nowhere/a.wav"},
		"no WAV":             {[]string{to, "--wav=" + write(t, "hello")}, "this is not a WAV file"},
		"a WAV at 16 for 24": {[]string{to, "--wav=" + file, "--rate=24000"}, "cannot convert from 16000 to 24000"},
		"no such CA":         {[]string{to, "--ca-file=/nowhere/ca"}, "/nowhere/ca"},
		"no CA":              {[]string{to, "--ca-file=" + write(t, "x")}, "holds no certificate in PEM"},
		"nobody there":       {[]string{to, "--wav=" + file}, "1 calls could not be opened"},
	} {
		t.Run(name, func(t *testing.T) {
			checkFailure(t, execute(t, append([]string{"simulate", "stream"}, tc.args...)...), tc.says)
		})
	}
}

// TestSimulateStreamFromTheEnvironment takes credentials that no argument should carry.
func TestSimulateStreamFromTheEnvironment(t *testing.T) {
	server := newAgent(t, agentsim.Options{})
	t.Setenv("CALY_URL", strings.Replace(server.URL(), "://", "://key:topsecret@", 1))
	result := execute(t, "simulate", "stream", "--duration=40ms")
	server.Close()
	request := http.Request{Header: server.Calls()[0].Header}
	if _, password, _ := request.BasicAuth(); result.err != nil || password != "topsecret" ||
		strings.Contains(result.out, "topsecret") {
		t.Errorf("%v, %q; the password was %q", result.err, result.out, password)
	}
}

func TestAgentEchoFails(t *testing.T) {
	cert, key := certificate(t)
	taken := newAgent(t, agentsim.Options{})
	for name, tc := range map[string]struct {
		args []string
		says string
	}{
		"an address that is taken": {[]string{"--listen=" + taken.Addr()}, "listen as an agent"},
		"an unknown protocol": {
			[]string{"--protocol=vonage"},
			`unknown agent protocol "vonage": use exotel, twilio or pcm`,
		},
		"a certificate alone": {[]string{"--tls-cert-file=" + cert}, "go together"},
		"a key alone":         {[]string{"--tls-key-file=" + key}, "go together"},
		"another's key": {
			[]string{"--tls-cert-file=" + cert, "--tls-key-file=" + cert},
			"read the certificate and its key",
		},
		"no such certificate": {[]string{"--tls-cert-file=/nowhere/cert", "--tls-key-file=" + key}, "/nowhere/cert"},
	} {
		t.Run(name, func(t *testing.T) {
			checkFailure(
				t, execute(t, append([]string{"agent", "echo", "--listen=127.0.0.1:0"}, tc.args...)...), tc.says,
			)
		})
	}
}

func TestQuantile(t *testing.T) {
	list := []time.Duration{5 * time.Second, time.Second, 3 * time.Second, 2 * time.Second}
	got := []time.Duration{
		quantile(nil, 0.5),
		quantile(list, 0),
		quantile(list, 0.25),
		quantile(list, 0.5),
		quantile(list, 0.51),
		quantile(list, 0.99),
		quantile(list, 1),
	}
	want := []time.Duration{
		0,
		time.Second,
		time.Second,
		2 * time.Second,
		3 * time.Second,
		5 * time.Second,
		5 * time.Second,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// TestTotalOfStreams verifies that the total reports several kinds of failures in one line.
func TestTotalOfStreams(t *testing.T) {
	outcomes := []outcome{
		{Report: exotelsim.Report{HungUp: true, Code: 1000, Echo: exotelsim.Echo{Equal: 10}}},
		{Report: exotelsim.Report{HungUp: true, Code: 1000, Echo: exotelsim.Echo{Lost: 2}, Invalid: 3}},
		{Report: exotelsim.Report{Code: 1006, Late: time.Second}},
		{err: errors.New("refused")},
	}
	for name, tc := range map[string]struct {
		outcomes []outcome
		echoed   bool
		want     string
	}{
		"good": {outcomes[:1], true, ""},
		"all": {outcomes, true,
			"1 calls could not be opened; 1 calls ended before their time; 1 calls did not get back what they sent; " +
				"3 messages were none that Exotel understands"},
		"nothing compared":  {outcomes[:2], false, "3 messages were none that Exotel understands"},
		"a call that ended": {outcomes[2:3], true, "1 calls ended before their time"},
	} {
		total := totalOf(tc.outcomes, tc.echoed)
		if err := total.err(); (err == nil) != (tc.want == "") || err != nil && err.Error() != tc.want {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
	if s := totalOf(outcomes, true).String(); !strings.Contains(
		s, "closed: 2 with 1000, 1 with 1006; sender at most 1s late",
	) {
		t.Errorf("the sum is %q", s)
	}
}

// TestStreamProcesses are the two commands as processes of their own: they end when they are told to, and with the
// status that a script needs.
func TestStreamProcesses(t *testing.T) {
	address := calytest.FreeAddress(t)
	server := calytest.Start(t, nil, "agent", "echo", "--listen="+address)
	to := "--url=ws://" + address + "/any/path"
	eventually.Holds(t, "agent echo answers", func() bool {
		code, _ := calytest.Fetch("http://" + address)
		return code != 0
	})
	good := calytest.Start(
		t,
		nil,
		"simulate",
		"stream",
		to,
		"--calls=20",
		"--ramp=100ms",
		"--duration=500ms",
		"--expect-echo",
		"--linger=20s",
	)
	if code := good.End(); code != 0 ||
		!strings.Contains(good.Out(), "20 calls, 0 failed, 0 ended early, 0 incomplete: sent 500 frames") {
		t.Errorf("ends with %d, prints %q and %q", code, good.Out(), good.Errs())
	}
	a := newAgent(t, agentsim.Options{})
	long := calytest.Start(t, nil, "simulate", "stream", "--url="+a.URL(), "--duration=1h")
	eventually.Holds(t, "the call begins", func() bool { return a.Live() == 1 })
	long.Interrupt()
	if code := long.End(); code != 0 || !strings.Contains(long.Out(), "1 calls, 0 failed, 0 ended early") {
		t.Errorf("interrupted it ends with %d, prints %q and %q", code, long.Out(), long.Errs())
	}
	server.Terminate()
	if code := server.End(); code != 0 {
		t.Errorf("agent echo ends with %d and %q", code, server.Errs())
	}
	away := calytest.Start(t, nil, "simulate", "stream", to, "--duration=1s")
	if code := away.End(); code != 1 || away.Errs() != "caly: 1 calls could not be opened\n" {
		t.Errorf("with nobody there it ends with %d and %q", code, away.Errs())
	}
}
