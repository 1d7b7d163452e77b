package main

import (
	"cmp"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/spf13/cobra"

	"github.com/caly-dev/caly/cmd/internal/cli"
	"github.com/caly-dev/caly/dataplane/monitoring"
	"github.com/caly-dev/caly/internal/dbconn"
)

// maxSecretBytes bounds what is read of a file: Kubernetes bounds a whole Secret to 1 MiB.
const maxSecretBytes = 1 << 20

// newPreflightCommand returns the command of the chart's preflight Job. The Job mounts every Secret as an optional volume, so
// that its pod starts without them, and needs no right on the Kubernetes API.
func newPreflightCommand() *cobra.Command {
	var directory string
	var required []string
	cmd := &cobra.Command{
		Use:   "preflight",
		Short: "Check the Secrets that an installation needs, before its pods start",
		Long: `Checks that files exist below a directory and hold what Caly's pods need. The chart's preflight Job mounts the Secrets
there, each as SECRET/KEY.

A requirement is KIND:SECRET/KEY, and after another colon the chart's value that names the Secret. Kinds: text (not
empty), database-url, token (16 bytes at least), certificates (PEM).`,
		Args: cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if len(required) == 0 {
				return usage("--require is needed: what to check")
			}
			if err := preflight(os.DirFS(directory), required); err != nil {
				return err
			}
			cmd.Printf("the installation has the %d keys of Secrets that it needs\n", len(required))
			return nil
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&directory, "directory", "/etc/caly/preflight", "where the Secrets are mounted")
	flags.StringArrayVar(&required, "require", nil, "a requirement, KIND:SECRET/KEY[:VALUE]; repeatable")
	return cmd
}

// preflight checks every requirement, and returns what is wrong with all of them.
func preflight(files fs.FS, required []string) error {
	var wrong []string
	for _, requirement := range required {
		kind, rest, _ := strings.Cut(requirement, ":")
		name, value, _ := strings.Cut(rest, ":")
		secret, key, ok := strings.Cut(name, "/")
		check := secretKinds[kind]
		if !ok || check == nil || !fs.ValidPath(name) {
			return usage("--require %q is not KIND:SECRET/KEY with a known kind", requirement)
		}
		if err := checkSecret(files, name, check); err != nil {
			wrong = append(wrong, fmt.Sprintf("Secret %s, key %s (%s): %v", secret, key, cmp.Or(value, kind), err))
		}
	}
	if len(wrong) > 0 {
		return fmt.Errorf("the installation cannot start: %s", strings.Join(wrong, "; "))
	}
	return nil
}

// checkSecret checks one key of a Secret. Its errors do not quote the content.
func checkSecret(files fs.FS, name string, check func(string) error) error {
	file, err := files.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return errors.New("the Secret or the key does not exist in the release's namespace; create it")
	}
	if err != nil {
		return fmt.Errorf("cannot be read: %w", err)
	}
	defer func() { _ = file.Close() }()
	content, err := io.ReadAll(io.LimitReader(file, maxSecretBytes))
	if err != nil {
		return fmt.Errorf("%s cannot be read: %w", path.Base(name), err)
	}
	text := strings.TrimSpace(string(content))
	if text == "" {
		return errors.New("the key is empty")
	}
	return check(text)
}

// secretKinds are the checks of contents.
var secretKinds = map[string]func(string) error{
	"text":         func(string) error { return nil },
	"database-url": dbconn.Check,
	"token": func(token string) error {
		if len(token) < monitoring.MinToken {
			return fmt.Errorf("the token has less than %d bytes", monitoring.MinToken)
		}
		return nil
	},
	"certificates": func(pem string) error {
		if !x509.NewCertPool().AppendCertsFromPEM([]byte(pem)) {
			return errors.New("the key holds no certificate in PEM form")
		}
		return nil
	},
}
