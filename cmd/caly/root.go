package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// version is set when a release is linked.
var version = "dev"

func newRootCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:           "caly",
		Short:         "The telephony edge of a multi-tenant voice platform on Kubernetes",
		Long:          "Every flag can also be set in the environment: --work-namespace as CALY_WORK_NAMESPACE, and so on.",
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			return fromEnvironment(cmd.Flags())
		},
	}
	cmd.SetOut(os.Stdout) // results are for pipes; cobra would send them to stderr
	cmd.AddCommand(newOperatorCommand(), newDataplaneCommand(), newUploadCommand(), newMigrateCommand(), newSimulateCommand(), newVersionCommand())
	return cmd
}

func newVersionCommand() *cobra.Command {
	return &cobra.Command{Use: "version", Short: "Print the version", Args: cobra.NoArgs, Run: func(cmd *cobra.Command, _ []string) {
		cmd.Println(version)
	}}
}

// fromEnvironment fills flags that were not given from CALY_<FLAG>.
func fromEnvironment(flags *pflag.FlagSet) (err error) {
	flags.VisitAll(func(f *pflag.Flag) {
		name := "CALY_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		if v, ok := os.LookupEnv(name); ok && !f.Changed && err == nil {
			if flags.Set(f.Name, v) != nil {
				err = fmt.Errorf("%s cannot be read as a value of --%s (%s)", name, f.Name, f.Value.Type())
			}
		}
	})
	return err
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
	return strings.TrimSpace(string(data)), nil
}

func parseCIDRs(list []string) ([]netip.Prefix, error) {
	var prefixes []netip.Prefix
	for _, s := range list {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return nil, fmt.Errorf("--allowed-source-cidrs: %q is not an address range such as 10.1.0.0/16", s)
		}
		prefixes = append(prefixes, p)
	}
	return prefixes, nil
}

// newLogger writes JSON to standard error.
func newLogger() *slog.Logger {
	level := slog.LevelInfo
	if os.Getenv("CALY_LOG_LEVEL") == "debug" {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
}

// exitError ends the process with a status of its own.
type exitError struct {
	code int
	error
}

// Unwrap returns the cause.
func (e *exitError) Unwrap() error { return e.error }

func exitCode(err error) int {
	var e *exitError
	if errors.As(err, &e) {
		return e.code
	}
	return 1
}
