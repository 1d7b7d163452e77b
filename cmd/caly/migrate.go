package main

import (
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/caly-dev/caly/cmd/internal/cli"
	"github.com/caly-dev/caly/migrations"
)

func newMigrateCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "migrate",
		Short: "Migrate the database to the schema that this version needs",
		Args:  cli.NoArgs,
		RunE:  help,
	}
	cmd.PersistentFlags().StringVar(&file, "database-url-file", "", "file with the owner's database URL (or CALY_DATABASE_URL)")
	up := &cobra.Command{
		Use:   "up",
		Short: "Apply pending migrations; safe to run repeatedly and concurrently",
		Args:  cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			dsn, err := databaseURL(file)
			if err != nil {
				return err
			}
			return migrations.Up(cmd.Context(), dsn, cli.NewLogger())
		}}
	status := &cobra.Command{Use: "status", Short: "Show which migrations are applied", Args: cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			dsn, err := databaseURL(file)
			if err != nil {
				return err
			}
			return printStatus(cmd, dsn)
		}}
	cmd.AddCommand(up, status)
	return cmd
}

func printStatus(cmd *cobra.Command, dsn string) error {
	rows, err := migrations.Status(cmd.Context(), dsn)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "VERSION\tFILE\tAPPLIED")
	for _, r := range rows {
		applied := "pending"
		if !r.AppliedAt.IsZero() {
			applied = r.AppliedAt.Format(time.RFC3339)
		}
		_, _ = fmt.Fprintf(w, "%d\t%s\t%s\n", r.Version, r.Name, applied)
	}
	return w.Flush()
}
