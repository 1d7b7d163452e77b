package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/caly-dev/caly/controllers/uploadjob"
	"github.com/caly-dev/caly/dataplane/upload"
	"github.com/caly-dev/caly/internal/secret"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

// values of the flags of newFlags.
type values struct {
	Name  string
	Count int
	On    bool
	After time.Duration
	List  []string
}

func newFlags(v *values) *pflag.FlagSet {
	flags := pflag.NewFlagSet("caly", pflag.ContinueOnError)
	flags.StringVar(&v.Name, "work-namespace", "caly-work", "")
	flags.IntVar(&v.Count, "max-pods", 8, "")
	flags.BoolVar(&v.On, "leader-elect", false, "")
	flags.DurationVar(&v.After, "grace", time.Second, "")
	flags.StringSliceVar(&v.List, "cidrs", nil, "")
	return flags
}

func TestFromEnvironment(t *testing.T) {
	defaults := values{Name: "caly-work", Count: 8, After: time.Second}
	with := func(f func(*values)) values {
		v := defaults
		f(&v)
		return v
	}
	for name, tc := range map[string]struct {
		env     map[string]string
		args    []string
		want    values
		wantErr string
	}{
		"nothing": {want: defaults},
		"every type": {
			env: map[string]string{
				"CALY_WORK_NAMESPACE": "w",
				"CALY_MAX_PODS":       "3",
				"CALY_LEADER_ELECT":   "true",
				"CALY_GRACE":          "2m",
				"CALY_CIDRS":          "a,b",
			},
			want: values{Name: "w", Count: 3, On: true, After: 2 * time.Minute, List: []string{"a", "b"}},
		},
		"a given flag wins": {
			env:  map[string]string{"CALY_MAX_PODS": "3"},
			args: []string{"--max-pods=4"},
			want: with(func(v *values) { v.Count = 4 }),
		},
		"given as its default it wins": {
			env:  map[string]string{"CALY_MAX_PODS": "3"},
			args: []string{"--max-pods=8"},
			want: defaults,
		},
		"given, nobody reads it": {
			env:  map[string]string{"CALY_MAX_PODS": "many"},
			args: []string{"--max-pods=4"},
			want: with(func(v *values) { v.Count = 4 }),
		},
		"empty string": {
			env:  map[string]string{"CALY_WORK_NAMESPACE": ""},
			want: with(func(v *values) { v.Name = "" }),
		},
		"another program's": {
			env:  map[string]string{"WORK_NAMESPACE": "x", "CALY_NAMESPACE": "y"},
			want: defaults,
		},
		"no number": {
			env:     map[string]string{"CALY_MAX_PODS": "topsecret"},
			wantErr: "CALY_MAX_PODS cannot be read as a value of --max-pods (int)",
		},
		"no truth": {
			env:     map[string]string{"CALY_LEADER_ELECT": "yes"},
			wantErr: "CALY_LEADER_ELECT cannot be read as a value of --leader-elect (bool)",
		},
		"no duration": {
			env:     map[string]string{"CALY_GRACE": "5"},
			wantErr: "CALY_GRACE cannot be read as a value of --grace (duration)",
		},
		"empty number": {
			env:     map[string]string{"CALY_MAX_PODS": ""},
			wantErr: "CALY_MAX_PODS cannot be read as a value of --max-pods (int)",
		},
	} {
		t.Run(name, func(t *testing.T) {
			for k, v := range tc.env {
				t.Setenv(k, v)
			}
			var got values
			flags := newFlags(&got)
			if err := flags.Parse(tc.args); err != nil {
				t.Fatal(err)
			}
			err := FromEnvironment(flags)
			if tc.wantErr != "" {
				if err == nil || err.Error() != tc.wantErr || exitCode(err) != ExitUsage {
					t.Errorf("got %v, want %q with status %d", err, tc.wantErr, ExitUsage)
				}
				return
			}
			if d := cmp.Diff(tc.want, got); err != nil || d != "" {
				t.Errorf("%v; flags (-want +got):\n%s", err, d)
			}
		})
	}
}

func TestParseCIDRs(t *testing.T) {
	got, err := ParseCIDRs("allowed-source-cidrs", []string{"10.1.0.0/16", "fd00::/8"})
	if want := []netip.Prefix{
		netip.MustParsePrefix("10.1.0.0/16"),
		netip.MustParsePrefix("fd00::/8"),
	}; err != nil || len(got) != 2 || got[0] != want[0] ||
		got[1] != want[1] {
		t.Errorf("got %v, %v; want %v", got, err, want)
	}
	if got, err := ParseCIDRs("allowed-source-cidrs", nil); err != nil || got != nil {
		t.Errorf("of nothing: %v, %v", got, err)
	}
	for _, bad := range []string{"", "10.1.0.0", "10.1.0.0/33", "example.com/8", "fe80::1%eth0/64"} {
		want := fmt.Sprintf("--allowed-source-cidrs: %q is not an address range such as 10.1.0.0/16", bad)
		if _, err := ParseCIDRs("allowed-source-cidrs", []string{"10.1.0.0/16", bad}); err == nil ||
			err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func TestExitCode(t *testing.T) {
	cause := errors.New("the cause")
	own := &ExitError{64, cause}
	for name, tc := range map[string]struct {
		err  error
		want int
	}{
		"plain":   {cause, 1},
		"own":     {own, 64},
		"wrapped": {fmt.Errorf("more: %w", own), 64},
	} {
		if got := exitCode(tc.err); got != tc.want {
			t.Errorf("%s: %d, want %d", name, got, tc.want)
		}
	}
	if own.Error() != "the cause" || !errors.Is(own, cause) {
		t.Errorf("it says %q", own)
	}
	if ExitUsage != upload.ExitConfig {
		t.Error("an upload Job does not end at once when its pods are started wrongly")
	}
}

// TestExitCodesOfUploadPods compares the codes of a pod with those by which the operator judges it. Neither package
// imports the other.
func TestExitCodesOfUploadPods(t *testing.T) {
	if uploadjob.ConfigExitCode != upload.ExitConfig || uploadjob.TerminatedExitCode != upload.ExitTerminated {
		t.Errorf("the operator expects %d and %d, a pod ends with %d and %d", uploadjob.ConfigExitCode,
			uploadjob.TerminatedExitCode, upload.ExitConfig, upload.ExitTerminated)
	}
}

// run is a command's end, as Main would see it.
func run(ctx context.Context, cmd *cobra.Command, args ...string) (int, error) {
	cmd.SetArgs(args)
	if err := cmd.ExecuteContext(ctx); err != nil {
		return exitCode(err), err
	}
	return 0, nil
}

func writeConfig(t *testing.T, change func(*tenantconfig.Upload)) string {
	t.Helper()
	upload := tenantconfig.Upload{
		Version:     tenantconfig.Version,
		ID:          "acme/support",
		KeyTemplate: "{{.RecordingID}}",
		DatabaseURL: secret.Sensitive("postgres://u:topsecret@" + nobody(t) + "/db?sslmode=disable"),
	}
	upload.Bucket = "b"
	upload.Endpoint = "http://127.0.0.1:1"
	upload.Region = "us-east-1"
	change(&upload)
	data, err := tenantconfig.EncodeUpload(upload)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "config.json")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// nobody is an address where nobody listens.
func nobody(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	return listener.Addr().String()
}

// TestUploadStatus expects 64 where a person must correct something, and 1 where another pod may succeed.
func TestUploadStatus(t *testing.T) {
	asIs := func(*tenantconfig.Upload) {}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	garbage := filepath.Join(t.TempDir(), "garbage")
	if err := os.WriteFile(garbage, []byte(`{"databaseURL":"topsecret`), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		args []string
		env  map[string]string
		want int
		says string
	}{
		"no config": {
			[]string{"--config=/nowhere/config.json"},
			nil,
			64,
			"the pod must mount the tenant's Secret there",
		},
		"garbage": {[]string{"--config=" + garbage}, nil, 64, "not the JSON"},
		"another version": {
			[]string{"--config=" + writeConfig(t, func(u *tenantconfig.Upload) { u.Version++ })},
			nil,
			64,
			"must be of one release",
		},
		"no database URL": {
			[]string{"--config=" + writeConfig(t, func(u *tenantconfig.Upload) {
				u.DatabaseURL = "postgres://u:topsecret@%zz"
			})},
			nil,
			64,
			"cannot be read",
		},
		"database away":     {[]string{"--config=" + writeConfig(t, asIs)}, nil, 1, "database unavailable"},
		"bad range":         {[]string{"--allowed-source-cidrs=everything"}, nil, 64, "is not an address range"},
		"unknown flag":      {[]string{"--nonsense"}, nil, 64, "unknown flag: --nonsense"},
		"unreadable flag":   {[]string{"--concurrency=many"}, nil, 64, "--concurrency"},
		"argument":          {[]string{"nonsense"}, nil, 64, `unknown command "nonsense" for "upload"`},
		"environment":       {nil, map[string]string{"CALY_CONCURRENCY": "many"}, 64, "CALY_CONCURRENCY"},
		"config in the env": {nil, map[string]string{"CALY_CONFIG": "/nowhere/from-env"}, 64, "/nowhere/from-env"},
		"address taken": {
			[]string{"--metrics-listen=" + taken.Addr().String()},
			nil,
			64,
			"choose another --metrics-listen",
		},
		"help": {[]string{"--help"}, nil, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			for k, v := range tc.env {
				t.Setenv(k, v)
			}
			cmd := newUploadCommand(uploadOptions{Options: upload.Options{DatabasePatience: time.Second}})
			cmd.SetOut(new(strings.Builder))
			code, err := run(t.Context(), cmd, tc.args...)
			if code != tc.want || (err == nil) != (tc.says == "") {
				t.Fatalf("ends with %d, %v; want %d", code, err, tc.want)
			}
			if err == nil {
				return
			}
			if s := err.Error(); !strings.Contains(s, tc.says) || strings.Contains(s, "\n") ||
				strings.Contains(s, "topsecret") {
				t.Errorf("it says %q, want %q in one line without secrets", s, tc.says)
			}
		})
	}
}

// TestUploadToldToEnd checks that a pod that is told to end while it waits for the database ends as one that is told to
// end later: it has not failed.
func TestUploadToldToEnd(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if code, err := run(
		ctx, NewUploadCommand("v1.2.3"), "--config="+writeConfig(t, func(*tenantconfig.Upload) {}),
	); code != 75 {
		t.Errorf("ends with %d, %v; want 75", code, err)
	}
}
