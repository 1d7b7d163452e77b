package main

import (
	"context"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/caly-dev/caly/cmd/internal/cli"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/migrations"
)

// migrateWait is how long "migrate up" waits for a database by default. A Job that fails at once uses up its retries
// while the database starts.
const migrateWait = 2 * time.Minute

func newMigrateCommand() *cobra.Command {
	var file string
	var wait time.Duration
	cmd := &cobra.Command{
		Use:   "migrate",
		Short: "Migrate the database to the schema that this version needs",
		Args:  cli.NoArgs,
		RunE:  help,
	}
	cmd.PersistentFlags().StringVar(
		&file, "database-url-file", "", "file with the owner's database URL (or CALY_DATABASE_URL)",
	)
	up := &cobra.Command{
		Use:   "up",
		Short: "Apply pending migrations; safe to run repeatedly and concurrently",
		Args:  cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			dsn, err := databaseURL(file)
			if err != nil {
				return err
			}
			if wait < 0 {
				return usage("--wait must not be negative")
			}
			return migrateUp(cmd.Context(), dsn, wait)
		},
	}
	up.Flags().DurationVar(&wait, "wait", migrateWait,
		"how long to wait for a database that accepts connections and writes; 0s: not at all")
	status := &cobra.Command{
		Use:   "status",
		Short: "Show which migrations are applied",
		Args:  cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			dsn, err := databaseURL(file)
			if err != nil {
				return err
			}
			return printStatus(cmd, dsn)
		},
	}
	cmd.AddCommand(up, status)
	return cmd
}

// migrateUp migrates the database. It waits at most that long for the first connection; a migration has no bound.
func migrateUp(ctx context.Context, dsn string, wait time.Duration) error {
	log := cli.NewLogger()
	up := func(context.Context) error { return migrations.Up(ctx, dsn, log) }
	if wait == 0 {
		return up(ctx)
	}
	waiting, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	return store.Await(waiting, log, up)
}

// printStatus prints each migration and when it was applied. It changes nothing.
func printStatus(cmd *cobra.Command, dsn string) error {
	rows, err := migrations.Status(cmd.Context(), dsn)
	if err != nil {
		return err
	}
	writer := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(writer, "VERSION\tFILE\tAPPLIED")
	for _, r := range rows {
		applied := "pending"
		if !r.AppliedAt.IsZero() {
			applied = r.AppliedAt.Format(time.RFC3339)
		}
		_, _ = fmt.Fprintf(writer, "%d\t%s\t%s\n", r.Version, r.Name, applied)
	}
	return writer.Flush()
}
