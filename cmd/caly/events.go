package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/caly-dev/caly/cmd/internal/cli"
	"github.com/caly-dev/caly/cmd/internal/eventprint"
	"github.com/caly-dev/caly/internal/eventview"
	"github.com/caly-dev/caly/internal/reason"
	"github.com/caly-dev/caly/internal/store"
)

func newEventsCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "events",
		Short: "Show stored events, and apply again those that could not be applied",
		Args:  cli.NoArgs,
		RunE:  help,
		Long: "Every authenticated event is kept. One that cannot be applied is kept as dead, " +
			"with its reason, until the cause is corrected and\n" +
			"it is applied again. In a cluster: kubectl -n caly-system exec deploy/caly-operator -- /caly events list",
	}
	cmd.PersistentFlags().StringVar(
		&file, "database-url-file", "", "file with the operator's database URL (or CALY_DATABASE_URL)",
	)
	cmd.AddCommand(newEventsListCommand(&file), newEventsShowCommand(&file), newEventsReplayCommand(&file))
	return cmd
}

// openEvents connects as the operator does.
func openEvents(cmd *cobra.Command, file string) (*store.Operator, error) {
	return openOperator(cmd.Context(), file, "caly-events")
}

// eventFilter is a store.EventFilter as flags spell it.
type eventFilter struct {
	tenant, call, reason, since, until string
	before                             int64
	limit                              int
	partial                            bool
}

// addTo adds the flags that select events; limit is the default of --limit.
func (f *eventFilter) addTo(cmd *cobra.Command, limit int) {
	flags := cmd.Flags()
	flags.StringVar(&f.tenant, "tenant", "", "namespace/name of the events' Tenant")
	flags.StringVar(&f.call, "call", "", "CallSid of the events' call; needs --tenant")
	flags.StringVar(&f.reason, "reason", "", "why the events are dead: "+strings.Join(reason.Dead(), ", ")+
		"; with --partial why a field was left out: "+strings.Join(reason.Fields(), ", "))
	flags.BoolVar(&f.partial, "partial", false,
		"events that were applied without fields that could not be read, or with a rejected recording")
	flags.StringVar(&f.since, "since", "", "received since this time: 24h, 2026-01-31 or 2026-01-31T10:00:00Z")
	flags.StringVar(&f.until, "until", "", "received before this time; same format as --since")
	flags.Int64Var(&f.before, "before", 0, "only events with a lower id: the next page")
	flags.IntVar(&f.limit, "limit", limit, "maximum number of events, newest first")
}

const maxEvents = 100_000

// parse returns errors of usage.
func (f *eventFilter) parse(now time.Time) (store.EventFilter, error) {
	out := store.EventFilter{Tenant: f.tenant, CallSID: f.call, Reason: f.reason, Before: f.before, Limit: f.limit}
	if f.partial {
		out.Which = store.PartialEvents
	}
	var errs [4]error
	if f.tenant != "" {
		_, _, errs[0] = splitTenant(f.tenant)
	} else if f.call != "" {
		errs[0] = errors.New("--call needs --tenant: calls are found by both")
	}
	out.Since, errs[1] = cli.ParseWhen("since", f.since, now)
	out.Until, errs[2] = cli.ParseWhen("until", f.until, now)
	if f.limit < 1 || f.limit > maxEvents || f.before < 0 {
		errs[3] = fmt.Errorf("--limit must be between 1 and %d, and --before an event's id", maxEvents)
	}
	for _, err := range errs {
		if err != nil {
			return out, cli.UsageError(nil, err)
		}
	}
	return out, nil
}

// checkOutput returns a usage error for an unknown output format.
func checkOutput(output string) error {
	if output != "table" && output != "json" {
		return cli.UsageError(nil, fmt.Errorf("--output %q is neither table nor json", output))
	}
	return nil
}

// parseEventID returns the id of an event, a number above zero, or a usage error.
func parseEventID(s string) (int64, error) {
	id, err := strconv.ParseInt(s, 10, 64)
	if err != nil || id < 1 {
		return 0, cli.UsageError(
			nil, fmt.Errorf("%q is not the id of an event, a number that caly events list shows", s),
		)
	}
	return id, nil
}

func newEventsListCommand(file *string) *cobra.Command {
	var f eventFilter
	var all bool
	var output string
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List dead or partial events, newest first",
		Args:  cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			filter, err := f.parse(time.Now())
			if err == nil {
				err = checkOutput(output)
			}
			if err != nil {
				return err
			}
			if all && f.partial {
				return cli.UsageError(cmd, errors.New("give either --all or --partial"))
			}
			if all {
				filter.Which = store.AllEvents
			}
			db, err := openEvents(cmd, *file)
			if err != nil {
				return err
			}
			defer db.Close()
			return listEvents(cmd, db, filter, output)
		},
	}
	f.addTo(cmd, 100)
	cmd.Flags().BoolVar(&all, "all", false, "list applied events too")
	cmd.Flags().StringVarP(&output, "output", "o", "table", "table or json")
	return cmd
}

// listEvents reads pages until it has the limit, and prints them as a table or JSON.
func listEvents(cmd *cobra.Command, db *store.Operator, filter store.EventFilter, output string) error {
	views := []eventview.Event{}
	next := int64(0)
	for limit := filter.Limit; len(views) < limit; {
		filter.Limit = limit - len(views)
		page, err := db.Events(cmd.Context(), filter)
		if err != nil {
			return err
		}
		for _, e := range page {
			views = append(views, eventview.Of(e))
			filter.Before = e.ID
		}
		if len(page) == 0 {
			break
		}
		if len(views) == limit {
			next = filter.Before
		}
	}
	if output == "json" {
		return cli.PrintJSON(cmd.OutOrStdout(), struct {
			Events []eventview.Event `json:"events"`
			Before int64             `json:"before,omitempty"` // of the next page
		}{views, next})
	}
	heading := strings.Join(eventprint.Heading, "\t")
	err := cli.PrintTable(cmd.OutOrStdout(), heading, views, func(v eventview.Event) string {
		return strings.Join(eventprint.Cells(v), "\t")
	})
	if next > 0 {
		cmd.PrintErrf("there may be more: add --before=%d\n", next)
	}
	return err
}
