package main

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caly-dev/caly/cmd/internal/cli"
)

func TestDataplaneFlags(t *testing.T) {
	good := dataplaneOptions{
		maxBody:        1,
		maxInFlight:    7,
		commitWorkers:  3,
		trustedProxies: []string{"10.0.0.0/8", "fd00::/8"},
		sourceCIDRs:    []string{"10.1.0.0/16"},
	}
	got, err := good.webhookOptions()
	if err != nil {
		t.Fatal(err)
	}
	if got.MaxInFlight != 7 || got.Workers != 3 || got.MaxBody != 1 {
		t.Errorf("bounds: %+v", got)
	}
	prefix := cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })
	if d := cmp.Diff(
		[]netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")},
		got.TrustedProxies,
		prefix,
	); d != "" {
		t.Errorf("proxies (-want +got):\n%s", d)
	}
	for name, tc := range map[string]struct {
		change func(*dataplaneOptions)
		want   string
		usage  bool
	}{
		"proxies": {
			func(o *dataplaneOptions) { o.trustedProxies = []string{"10.0.0.1"} },
			`--trusted-proxies: "10.0.0.1" is not an address range such as 10.1.0.0/16`,
			false,
		},
		"sources": {
			func(o *dataplaneOptions) { o.sourceCIDRs = []string{"all"} },
			`--allowed-source-cidrs: "all" is not an address range such as 10.1.0.0/16`,
			false,
		},
		"nothing in": {
			func(o *dataplaneOptions) { o.maxInFlight = 0 },
			"--max-in-flight, --commit-workers and --max-body-bytes must be at least 1",
			true,
		},
		"no workers": {
			func(o *dataplaneOptions) { o.commitWorkers = -1 },
			"--max-in-flight, --commit-workers and --max-body-bytes must be at least 1",
			true,
		},
	} {
		o := good
		tc.change(&o)
		_, err := o.webhookOptions()
		var exit *cli.ExitError
		if err == nil || err.Error() != tc.want || errors.As(err, &exit) != tc.usage {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
}

// TestCaptureFlags rejects bounds below the smallest.
func TestCaptureFlags(t *testing.T) {
	for _, arg := range []string{"--max-captures=0", "--max-capture-bytes=1000"} {
		result := execute(t, "dataplane", "--work-namespace=w", arg)
		var exit *cli.ExitError
		if !errors.As(result.err, &exit) || exit.Code != cli.ExitUsage ||
			!strings.Contains(result.err.Error(), "--max-capture") {
			t.Errorf("%s: %v", arg, result.err)
		}
	}
}
