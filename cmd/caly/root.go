package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/caly-dev/caly/cmd/internal/cli"
	"github.com/caly-dev/caly/cmd/internal/kubectl"
	"github.com/caly-dev/caly/internal/buildinfo"
	"github.com/caly-dev/caly/internal/store"
)

// version is set when a release is linked.
var version = "dev"

// newRootCommand returns the command tree. Every flag is also read from the environment.
func newRootCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:           "caly",
		Short:         "The telephony edge of a multi-tenant voice platform on Kubernetes",
		Long:          "Every flag can also be set in the environment: --work-namespace as CALY_WORK_NAMESPACE, and so on.",
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cli.NoArgs,
		RunE:          help,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			return cli.FromEnvironment(cmd.Flags())
		},
	}
	cmd.SetFlagErrorFunc(cli.UsageError)
	cmd.SetOut(os.Stdout) // results are for pipes; cobra would send them to stderr
	cmd.AddCommand(
		newOperatorCommand(),
		newDataplaneCommand(),
		cli.NewUploadCommand(version),
		newMigrateCommand(),
		newPreflightCommand(),
		newSmokeCommand(),
		newSimulateCommand(),
		newAgentCommand(),
		newEventsCommand(),
		newUserCommand(),
		newSessionsCommand(),
		newWebhooksCommand(),
		kubectl.NewCommand(buildinfo.Of(version)),
		cli.NewLogLevelCommand(),
		newVersionCommand(),
	)
	return cmd
}

// help is what a command with subcommands does by itself. Without it cobra would take an unknown subcommand for a wish for help,
// and end with success.
func help(cmd *cobra.Command, _ []string) error { return cmd.Help() }

func newVersionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version, the commit and its date",
		Args:  cli.NoArgs,
		Run: func(cmd *cobra.Command, _ []string) {
			cmd.Println(buildinfo.Of(version))
		},
	}
}

// openOperator connects as the operator does, for a command that people run; PostgreSQL shows it by the name.
func openOperator(ctx context.Context, urlFile, name string) (*store.Operator, error) {
	dsn, err := databaseURL(urlFile)
	if err != nil {
		return nil, err
	}
	return store.OpenOperator(ctx, dsn, store.Options{MaxConns: 2, ApplicationName: name})
}

// databaseURL reads the database's URL from a file or from CALY_DATABASE_URL: never from argv, which others can see.
func databaseURL(file string) (string, error) {
	if file == "" {
		if v := os.Getenv("CALY_DATABASE_URL"); v != "" {
			return v, nil
		}
		return "", errors.New("no database URL: set CALY_DATABASE_URL, or --database-url-file to a file that holds it")
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("read the database URL: %w", err)
	}
	dsn := strings.TrimSpace(string(data))
	if dsn == "" { // the driver would read it as "the local server"
		return "", fmt.Errorf("the file %s holds no database URL", file)
	}
	return dsn, nil
}
