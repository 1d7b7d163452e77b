package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/caly-dev/caly/cmd/internal/cli"
	"github.com/caly-dev/caly/internal/g711"
	"github.com/caly-dev/caly/internal/resample"
	"github.com/caly-dev/caly/internal/simulator/exotelsim"
	"github.com/caly-dev/caly/internal/wav"
)

type streamOptions struct {
	url, urlFile, tenant, server, secretFile string
	caFile, wav, quoting, expectEcho, digits string
	oneTime                                  bool
	quirks                                   []string
	calls, rate                              int
	pace, duration, linger, ramp             time.Duration
}

// What --expect-echo takes.
const (
	echoExact = "exact"
	echoULaw  = "mulaw"
)

// longestWAV is an hour, Exotel's longest stream, at 24 kHz.
const longestWAV = 3600 * 24000 * 2

func newSimulateStreamCommand() *cobra.Command {
	var o streamOptions
	cmd := &cobra.Command{
		Use:   "stream",
		Short: "Place calls with audio: stream it as Exotel does, and check what comes back",
		Args:  cli.NoArgs,
		Long: "Every call is a WebSocket of its own that sends audio in real time. Prints a line for each call and " +
			"one for all:\n" +
			"frames, what came back equal, wrong or not at all, latency from a frame's sending to its return, gaps " +
			"that the caller hears, close codes.\n" +
			"Ends with 1 when a call could not be opened or ended before its time, or something that was to come " +
			"back is missing.\n" +
			"With --tenant the address and the first secrets that let streams in are read from the cluster of the " +
			"current kubeconfig;\n" +
			"with --server, the address is made without one, and --secret-file has the Tenant's token.\n" +
			"Another address with credentials or a token belongs into --url-file, or CALY_URL: others can see " +
			"arguments.",
		RunE: func(cmd *cobra.Command, _ []string) error { return stream(cmd, o) },
	}
	flags := cmd.Flags()
	flags.StringVar(
		&o.url,
		"url",
		"",
		"address as in Exotel's applet: ws, wss, or http, https of an endpoint that answers with one",
	)
	flags.StringVar(&o.urlFile, "url-file", "", "file with that address")
	flags.StringVar(&o.tenant, "tenant", "", "namespace/name of a Tenant to stream to, in place of an address")
	flags.StringVar(
		&o.server,
		"server",
		"",
		"where the data plane of --tenant is reached, such as wss://caly.example.com; without it, as the cluster says",
	)
	flags.StringVar(&o.secretFile, "secret-file", "", "file with a token of --tenant, for --server")
	flags.BoolVar(
		&o.oneTime,
		"one-time",
		false,
		"ask for an address with a one-time token before each call of --tenant, as Exotel does with a dynamic URL",
	)
	flags.StringVar(&o.caFile, "ca-file", "", "file with certificates to trust in addition to the system's")
	flags.StringVar(&o.wav, "wav", "", "file to play: PCM, 16 bits, mono, at 8, 16 or 24 kHz; noise without")
	flags.IntVar(&o.calls, "calls", 1, "number of calls at the same time")
	flags.DurationVar(&o.ramp, "ramp", time.Second, "time over which they begin")
	flags.DurationVar(&o.duration, "duration", 0, "how long each talks; the file once without, 10s without a file")
	flags.DurationVar(&o.pace, "pace", 20*time.Millisecond, "length of a frame: 20ms or 100ms in Exotel's")
	flags.IntVar(&o.rate, "rate", 0, "samples a second: 8000, 16000 or 24000; the file's without, 8000 without a file")
	flags.StringVar(&o.quoting, "quoting", string(exotelsim.Numbers), "numbers or strings: how numbers are written")
	flags.StringSliceVar(
		&o.quirks, "quirks", nil, "oddities of Exotel's: camel-case, no-connected, binary, extra-keys, odd-sizes",
	)
	flags.StringVar(&o.digits, "digits", "", "digits to press")
	flags.StringVar(
		&o.expectEcho,
		"expect-echo",
		"",
		"compare what comes back: exact, or mulaw behind an agent that hears in mu-law at 8 kHz",
	)
	flags.Lookup("expect-echo").NoOptDefVal = echoExact
	flags.DurationVar(&o.linger, "linger", 2*time.Second, "how long to wait for the rest of the echo")
	return cmd
}

// stream places the calls, prints a report, and returns an error if one failed or lost audio.
func stream(cmd *cobra.Command, o streamOptions) error {
	s, err := o.stream(cmd.Context())
	if err != nil {
		return err
	}
	begin := time.Now()
	outcomes := runStreams(cmd.Context(), s, o)
	all := totalOf(outcomes, o.expectEcho != "")
	for _, r := range outcomes {
		cmd.Println(r)
	}
	cmd.Printf("%s in %s\n", all, time.Since(begin).Round(time.Millisecond))
	return all.err()
}

// runStreams has all calls, begun one after the other over the ramp.
func runStreams(ctx context.Context, s exotelsim.Stream, o streamOptions) []outcome {
	outcomes := make([]outcome, o.calls)
	var group errgroup.Group
	for i := range outcomes {
		group.Go(func() error {
			select {
			case <-time.After(o.ramp * time.Duration(i) / time.Duration(o.calls)):
			case <-ctx.Done():
			}
			report, err := s.Run(ctx)
			outcomes[i] = outcome{report, err}
			return nil
		})
	}
	_ = group.Wait() // each outcome has its own error
	return outcomes
}

// stream is what every call does.
func (o streamOptions) stream(ctx context.Context) (exotelsim.Stream, error) {
	s := exotelsim.Stream{
		Rate:     o.rate,
		Pace:     o.pace,
		Duration: o.duration,
		Linger:   o.linger,
		Digits:   o.digits,
		Quoting:  exotelsim.Quoting(o.quoting),
	}
	if o.calls < 1 {
		return s, errors.New("--calls must be at least 1")
	}
	if o.pace < 10*time.Millisecond || o.pace > time.Second {
		return s, errors.New("--pace must be between 10ms and 1s; Exotel's are 20ms and 100ms")
	}
	if !slices.Contains([]int{0, 8000, 16000, 24000}, o.rate) {
		return s, fmt.Errorf("--rate %d is not one of 8000, 16000, 24000", o.rate)
	}
	if o.quoting != string(exotelsim.Numbers) && o.quoting != string(exotelsim.Strings) {
		return s, fmt.Errorf("--quoting %q is neither numbers nor strings", o.quoting)
	}
	var err error
	if s.URL, err = o.address(ctx); err != nil {
		return s, err
	}
	if s.Quirks, err = quirksOf(o.quirks); err != nil {
		return s, err
	}
	if s.TLS, err = clientTLS(o.caFile); err != nil {
		return s, err
	}
	if s.Rate, s.Audio, err = o.audio(); err != nil {
		return s, err
	}
	s.Expect, err = o.expect(s)
	return s, err
}

// address returns the stream's URL from --url, --url-file or the Tenant. It returns an error unless one of them is
// given.
func (o streamOptions) address(ctx context.Context) (string, error) {
	if o.tenant == "" && (o.server != "" || o.secretFile != "" || o.oneTime) {
		return "", errors.New("--server, --secret-file and --one-time are for --tenant: give the namespace/name of one")
	}
	address, err := readLine(o.urlFile)
	if err != nil {
		return "", err
	}
	given := 0
	for _, a := range []string{address, o.url, o.tenant} {
		if a != "" {
			given++
		}
	}
	if given != 1 {
		return "", errors.New("nowhere to call: give --url, --url-file or --tenant, one of them")
	}
	if o.tenant != "" {
		return o.tenantAddress(ctx)
	}
	if u, err := url.Parse(o.url); err == nil && u.User != nil && os.Getenv("CALY_URL") != o.url {
		return "", errors.New(
			"--url carries credentials, which others can see: put it into a file, and give that with --url-file",
		)
	}
	return address + o.url, nil
}

// quirksOf returns the named deviations, or an error for an unknown name.
func quirksOf(names []string) (q exotelsim.StreamQuirks, err error) {
	for _, name := range names {
		switch name {
		case "camel-case":
			q.CamelCase = true
		case "no-connected":
			q.NoConnected = true
		case "binary":
			q.Binary = true
		case "extra-keys":
			q.ExtraKeys = true
		case "odd-sizes":
			q.OddSizes = true
		default:
			return q, fmt.Errorf("--quirks %q is not one of camel-case, no-connected, binary, extra-keys, odd-sizes",
				name)
		}
	}
	return q, nil
}

// clientTLS trusts the system's certificates and those of a file.
func clientTLS(caFile string) (*tls.Config, error) {
	if caFile == "" {
		return nil, nil //nolint:nilnil // nil is what a client has by itself
	}
	data, err := os.ReadFile(caFile)
	if err != nil {
		return nil, err
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(data) {
		return nil, fmt.Errorf("the file %s holds no certificate in PEM", caFile)
	}
	return &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, nil
}

// audio is the file's, converted where the call has another rate.
func (o streamOptions) audio() (rate int, pcm []byte, err error) {
	rate = o.rate
	if o.wav == "" {
		if rate == 0 {
			rate = 8000
		}
		return rate, exotelsim.Noise(rate * 10), nil
	}
	file, err := os.Open(o.wav)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = file.Close() }()
	a, err := wav.Read(file, longestWAV)
	if err != nil {
		return 0, nil, fmt.Errorf("%s: %w", o.wav, err)
	}
	if rate == 0 || rate == a.Rate {
		return a.Rate, a.PCM, nil
	}
	resampler, err := resample.New(a.Rate, rate)
	if err != nil {
		return 0, nil, fmt.Errorf("%s at --rate=%d: %w", o.wav, rate, err)
	}
	return rate, exotelsim.PCM(resampler.Append(nil, exotelsim.Samples(a.PCM))), nil
}

// expect is the audio as it is to come back; nil if that does not matter.
func (o streamOptions) expect(s exotelsim.Stream) ([]byte, error) {
	switch {
	case o.expectEcho == "":
		return nil, nil
	case o.expectEcho == echoExact:
		return s.Audio, nil
	case o.expectEcho != echoULaw:
		return nil, fmt.Errorf("--expect-echo %q is neither exact nor mulaw", o.expectEcho)
	case s.Rate != 8000:
		return nil, errors.New(
			"--expect-echo=mulaw needs --rate=8000: a converted rate does not come back sample by sample",
		)
	}
	return exotelsim.PCM(g711.AppendDecode(nil, g711.AppendEncode(nil, exotelsim.Samples(s.Audio)))), nil
}
