package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"github.com/caly-dev/caly/cmd/internal/cli"
	"github.com/caly-dev/caly/internal/buildinfo"
)

// result of a command that ran in this process.
type result struct {
	out, errs string
	err       error
}

func execute(t *testing.T, args ...string) result {
	t.Helper()
	var out, errs strings.Builder
	cmd := newRootCommand()
	cmd.SetArgs(args)
	cmd.SetOut(&out)
	cmd.SetErr(&errs)
	err := cmd.ExecuteContext(t.Context())
	return result{out.String(), errs.String(), err}
}

// checkFailure wants an error of one line that holds says and no secret.
func checkFailure(t *testing.T, r result, says string) {
	t.Helper()
	if r.err == nil {
		t.Fatalf("it succeeds, and prints %q", r.out)
	}
	if s := r.err.Error(); !strings.Contains(s, says) || strings.ContainsAny(s, "\n\r") ||
		strings.Contains(s+r.out+r.errs, "topsecret") {
		t.Errorf("it says %q, want %q in one line without secrets", s, says)
	}
}

// commands are the paths of all commands, as words.
func commands(cmd *cobra.Command, path []string) [][]string {
	all := [][]string{path}
	for _, c := range cmd.Commands() {
		if c.Name() != "help" && c.Name() != "completion" {
			all = append(all, commands(c, append(append([]string{}, path...), c.Name()))...)
		}
	}
	return all
}

// TestEveryCommandRefusesWhatItDoesNotKnow verifies that each command fails on an unknown flag or argument.
func TestEveryCommandRefusesWhatItDoesNotKnow(t *testing.T) {
	all := commands(newRootCommand(), nil)
	if len(all) < 12 {
		t.Fatalf("only %d commands: %v", len(all), all)
	}
	t.Setenv("KUBECONFIG", "/nowhere/kubeconfig")
	for _, path := range all {
		name := "caly " + strings.Join(path, " ")
		argument := `unknown command "nonsense" for`
		switch name {
		case "caly events show", "caly events replay":
			argument = `"nonsense" is not the id of an event`
		case "caly user disable", "caly user enable", "caly user revoke":
			argument = "the email must be an email address"
		case "caly log-level":
			argument = "give one argument: debug or reset"
		case "caly kubectl status":
			continue // it takes any name of a Tenant
		case "caly kubectl recordings show", "caly kubectl recordings retry",
			"caly kubectl streams show", "caly kubectl streams close",
			"caly kubectl events show", "caly kubectl events replay",
			"caly kubectl users disable", "caly kubectl users enable", "caly kubectl users revoke":
			argument = "no kubeconfig" // any word is an id or an email that the operator may know
		case "caly sessions close":
			argument = `"nonsense" is not a stream id`
		}
		for word, says := range map[string]string{"--nonsense": "unknown flag: --nonsense", "nonsense": argument} {
			result := execute(t, append(append([]string{}, path...), word)...)
			checkFailure(t, result, says)
			var exit *cli.ExitError
			if strings.HasPrefix(word, "--") && (!errors.As(result.err, &exit) || exit.Code != cli.ExitUsage) {
				t.Errorf("%s %s: ends with %v, want status %d", name, word, result.err, cli.ExitUsage)
			}
			if result.out+result.errs != "" {
				t.Errorf("%s %s also prints %q and %q", name, word, result.out, result.errs)
			}
		}
		if result := execute(
			t,
			append(append([]string{}, path...), "--help")...); result.err != nil ||
			!strings.Contains(result.out, "Usage:") {
			t.Errorf("%s --help: %v, %q", name, result.err, result.out)
		}
	}
}

// TestNoSecretInFlags verifies that no flag takes a secret as its value, because other users of the machine can read
// argv.
func TestNoSecretInFlags(t *testing.T) {
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		for _, word := range []string{"database-url", "password", "secret", "token", "api-key", "access-key", "secret-key", "dsn"} {
			if cmd.Flags().Lookup(word) != nil || cmd.PersistentFlags().Lookup(word) != nil {
				t.Errorf("%s has a flag --%s", cmd.CommandPath(), word)
			}
		}
		for _, c := range cmd.Commands() {
			walk(c)
		}
	}
	walk(newRootCommand())
}

func TestVersionAndHelp(t *testing.T) {
	if result := execute(t, "version"); result.err != nil || result.out != buildinfo.Of(version).String()+"\n" {
		t.Errorf("version: %v, %q", result.err, result.out)
	}
	for _, group := range []string{"", "migrate", "simulate", "agent", "events", "user", "sessions", "kubectl"} {
		if result := execute(
			t,
			strings.Fields(group)...); result.err != nil ||
			!strings.Contains(result.out, "Available Commands:") {
			t.Errorf("caly %s: %v, %q", group, result.err, result.out)
		}
	}
}

func TestFlagsFromTheEnvironment(t *testing.T) {
	t.Setenv("CALY_DRAIN_DELAY", "soon")
	checkFailure(t, execute(t, "dataplane"), "CALY_DRAIN_DELAY cannot be read as a value of --drain-delay (duration)")
	t.Setenv("CALY_DATABASE_URL_FILE", "/nowhere/url")
	checkFailure(t, execute(t, "migrate", "status"), "/nowhere/url")
	checkFailure(t, execute(t, "migrate", "status", "--database-url-file=/nowhere/else"), "/nowhere/else")
}

func write(t *testing.T, content string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestDatabaseURL(t *testing.T) {
	const fromEnv, fromFile = "postgres://env", "postgres://file"
	for name, tc := range map[string]struct {
		env, file  string
		want, says string
	}{
		"environment":       {env: fromEnv, want: fromEnv},
		"file":              {file: write(t, fromFile), want: fromFile},
		"file with a line":  {file: write(t, "  "+fromFile+"\r\n\n"), want: fromFile},
		"the file wins":     {env: fromEnv, file: write(t, fromFile), want: fromFile},
		"neither":           {says: "set CALY_DATABASE_URL, or --database-url-file"},
		"no such file":      {env: fromEnv, file: "/nowhere/url", says: "read the database URL: open /nowhere/url"},
		"an empty file":     {env: fromEnv, file: write(t, " \n"), says: "holds no database URL"},
		"a folder, no file": {file: t.TempDir(), says: "read the database URL"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("CALY_DATABASE_URL", tc.env)
			got, err := databaseURL(tc.file)
			if got != tc.want || (err == nil) != (tc.says == "") ||
				err != nil && !strings.Contains(err.Error(), tc.says) {
				t.Errorf("got %q, %v; want %q, %q", got, err, tc.want, tc.says)
			}
		})
	}
}

func TestReadLine(t *testing.T) {
	for name, tc := range map[string]struct{ file, want string }{"none": {"", ""}, "one": {write(t, "key\n"), "key"}} {
		if got, err := readLine(tc.file); err != nil || got != tc.want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if _, err := readLine("/nowhere/key"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
}

// TestTenantIDs verifies that the commands reject a tenant id that is not namespace/name before they connect to
// anything.
func TestTenantIDs(t *testing.T) {
	for _, id := range []string{"support", "/support", "acme/", "acme/support/more", "/"} {
		checkFailure(t, execute(t, "simulate", "call", "--tenant="+id), "is not namespace/name")
		checkFailure(t, execute(t, "simulate", "verify", "--ledger=/nowhere", "--tenant="+id), "is not namespace/name")
	}
	ns, name, err := splitTenant("acme/support")
	if d := cmp.Diff([]string{"acme", "support"}, []string{ns, name}); err != nil || d != "" {
		t.Errorf("%v\n%s", err, d)
	}
}
