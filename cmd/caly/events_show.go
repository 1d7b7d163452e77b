package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/caly-dev/caly/cmd/internal/cli"
	"github.com/caly-dev/caly/cmd/internal/eventprint"
	"github.com/caly-dev/caly/internal/eventview"
	"github.com/caly-dev/caly/internal/store"
)

func newEventsShowCommand(file *string) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "show ID",
		Short: "Show an event, its request, and what to do about it",
		Args:  oneEvent,
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := parseEventID(args[0])
			if err == nil {
				err = checkOutput(output)
			}
			if err != nil {
				return err
			}
			db, err := openEvents(cmd, *file)
			if err != nil {
				return err
			}
			defer db.Close()
			keptEvent, err := db.Event(cmd.Context(), id)
			if errors.Is(err, store.ErrNotFound) {
				return fmt.Errorf("there is no event %d: caly events list shows which there are", id)
			}
			if err != nil {
				return err
			}
			shown := eventview.RequestOf(keptEvent)
			if output == "json" {
				return cli.PrintJSON(cmd.OutOrStdout(), shown)
			}
			eventprint.Request(cmd, shown)
			return nil
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "table", "table or json")
	return cmd
}

// oneEvent is the argument check of commands that take one event id.
func oneEvent(cmd *cobra.Command, args []string) error {
	if len(args) != 1 {
		return cli.UsageError(cmd, errors.New("give the id of one event: caly events list shows them"))
	}
	return nil
}
