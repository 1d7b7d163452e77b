// Package cli is what Caly's programs share: flags from the environment, the logger, the exit status.
package cli

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// ExitUsage is the status of a process that was started wrongly. Starting it again does not help. The value is
// EX_USAGE of sysexits.h, and upload Jobs end on it.
const ExitUsage = 64

// UsageError makes err one that ends the process with ExitUsage. It suits cobra's SetFlagErrorFunc.
func UsageError(_ *cobra.Command, err error) error { return &ExitError{ExitUsage, err} }

// NoArgs is cobra.NoArgs with a UsageError.
func NoArgs(cmd *cobra.Command, args []string) error {
	if err := cobra.NoArgs(cmd, args); err != nil {
		return UsageError(cmd, err)
	}
	return nil
}

// FromEnvironment fills flags that were not given from CALY_<FLAG>.
func FromEnvironment(flags *pflag.FlagSet) (err error) {
	flags.VisitAll(func(f *pflag.Flag) {
		name := "CALY_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		if v, ok := os.LookupEnv(name); ok && !f.Changed && err == nil {
			if flags.Set(f.Name, v) != nil {
				err = &ExitError{
					ExitUsage,
					fmt.Errorf("%s cannot be read as a value of --%s (%s)", name, f.Name, f.Value.Type()),
				}
			}
		}
	})
	return err
}

// ParseCIDRs reads the values of a flag that takes address ranges.
func ParseCIDRs(flag string, list []string) ([]netip.Prefix, error) {
	var prefixes []netip.Prefix
	for _, s := range list {
		prefix, err := netip.ParsePrefix(s)
		if err != nil {
			return nil, fmt.Errorf("--%s: %q is not an address range such as 10.1.0.0/16", flag, s)
		}
		prefixes = append(prefixes, prefix)
	}
	return prefixes, nil
}

// ExitError ends the process with a status of its own.
type ExitError struct {
	Code int
	Err  error
}

// Unwrap returns the cause.
func (e *ExitError) Unwrap() error { return e.Err }

// Error returns the cause's message.
func (e *ExitError) Error() string { return e.Err.Error() }

func exitCode(err error) int {
	var e *ExitError
	if errors.As(err, &e) {
		return e.Code
	}
	return 1
}

// Main runs a command until it ends or the process is told to, and exits with its status.
func Main(cmd *cobra.Command) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	changeLevel(ctx)
	err := cmd.ExecuteContext(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "caly:", err)
		os.Exit(exitCode(err))
	}
}
