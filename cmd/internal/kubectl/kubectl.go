// Package kubectl is the kubectl plugin: commands that work on the recordings, streams, events and people of Tenants with
// the credentials of a kubeconfig, through the operator's admin API. The same program is `kubectl caly` when it is called
// kubectl-caly, and `caly kubectl` otherwise.
package kubectl

import (
	"errors"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/caly-dev/caly/cmd/internal/cli"
	"github.com/caly-dev/caly/internal/adminapi/client"
	"github.com/caly-dev/caly/internal/buildinfo"
)

// Statuses of the process, in addition to 0 and cli.ExitUsage. The values are those of sysexits.h.
const (
	// exitFailed means that the operation failed, or that some of the objects were not changed.
	exitFailed = 1
	// exitUnavailable means that the operator or the API server could not be reached, or is busy.
	exitUnavailable = 69
	// exitNoPermission means that the credentials are not valid or lack a right.
	exitNoPermission = 77
)

// IsPlugin reports whether the program was called as a kubectl plugin.
func IsPlugin(program string) bool {
	name := strings.TrimSuffix(filepath.Base(program), ".exe")
	return name == "kubectl-caly" || name == "kubectl_complete-caly"
}

// NewPlugin returns the commands as `kubectl caly`.
func NewPlugin(version buildinfo.Info) *cobra.Command {
	cmd := newCommand("kubectl-caly", &Session{Version: version})
	cmd.Annotations = map[string]string{cobra.CommandDisplayNameAnnotation: "kubectl caly"}
	cmd.SilenceUsage = true
	cmd.SilenceErrors = true
	cmd.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error { return cli.FromEnvironment(cmd.Flags()) }
	return cmd
}

// NewCommand returns the commands as a subcommand, `caly kubectl`.
func NewCommand(version buildinfo.Info) *cobra.Command {
	return newCommand("kubectl", &Session{Version: version})
}

func newCommand(use string, s *Session) *cobra.Command {
	cmd := &cobra.Command{
		Use:   use,
		Short: "Show and change recordings, streams, events and people of Tenants with a kubeconfig",
		Args:  cli.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		Long: `Shows and changes what Tenants have in PostgreSQL, with the credentials of a kubeconfig.

The commands reach the operator by a port-forward, and the operator asks the API server what the user may do. Rights are
ordinary RBAC rules of the API group voice.caly.dev: recordings, streams, events and users, in the namespace of the Tenant.
As a plugin of kubectl, link the program under the name kubectl-caly in a folder of the PATH.

Exit status: 0 done; 1 failed, or not all objects were changed; 64 wrong usage; 69 the operator or the API server cannot
be reached; 77 the credentials are not valid or lack a right.`,
		Example: `  # failed recordings of the namespace acme
  kubectl caly recordings list --failed -n acme
  # upload again what failed since yesterday because the bucket denied access
  kubectl caly recordings retry --failed --code AccessDenied --since 24h -n acme --dry-run`,
	}
	cmd.SetFlagErrorFunc(cli.UsageError)
	s.addTo(cmd.PersistentFlags())
	cmd.AddCommand(
		newRecordingsCommand(s),
		newStreamsCommand(s),
		newEventsCommand(s),
		newUsersCommand(s),
		newStatusCommand(s),
		newDoctorCommand(s),
		newReportCommand(s),
		newTopCommand(s),
		newVersionCommand(s),
	)
	return cmd
}

// group returns a command that only has subcommands.
func group(use, short string, commands ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use:   use,
		Short: short,
		Args:  cli.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(commands...)
	return cmd
}

// run returns a cobra function whose errors carry the documented status.
func run(f func(*cobra.Command, []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error { return withStatus(f(cmd, args)) }
}

// withStatus gives an error its exit status.
func withStatus(err error) error {
	var exit *cli.ExitError
	var unreachable *client.UnreachableError
	switch {
	case err == nil, errors.As(err, &exit):
		return err
	case apierrors.IsForbidden(err), apierrors.IsUnauthorized(err):
		return &cli.ExitError{Code: exitNoPermission, Err: err}
	case apierrors.IsServiceUnavailable(err), apierrors.IsTooManyRequests(err), apierrors.IsTimeout(err),
		errors.As(err, &unreachable):
		return &cli.ExitError{Code: exitUnavailable, Err: err}
	}
	return err
}
