package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/caly-dev/caly/cmd/internal/cli"
	"github.com/caly-dev/caly/cmd/internal/eventprint"
	"github.com/caly-dev/caly/internal/recording"
	"github.com/caly-dev/caly/internal/replay"
	"github.com/caly-dev/caly/internal/store"
)

type replayOptions struct {
	filter               eventFilter
	all, dryRun, http    bool
	sourceCIDRs          []string
	output, databaseFile string
}

func newEventsReplayCommand(file *string) *cobra.Command {
	var o replayOptions
	cmd := &cobra.Command{
		Use:   "replay [ID...]",
		Short: "Apply dead or partial events again, by what their Tenants say now",
		Long: "Applies the named events, or those that the flags choose, as if they came now. An event whose " +
			"reason holds still stays dead.\n" +
			"One that was applied before is left alone, so that a repeat is harmless. Ends with an error when any " +
			"of them is not applied.\n" +
			"The Tenants are read from the cluster of the current kubeconfig or, in a pod, of its service account.",
		RunE: func(cmd *cobra.Command, args []string) error {
			o.databaseFile = *file
			return replayEvents(cmd, o, args)
		},
	}
	o.filter.addTo(cmd, 1000)
	flags := cmd.Flags()
	flags.BoolVar(&o.all, "all", false, "apply every dead event, up to the limit")
	flags.BoolVar(&o.dryRun, "dry-run", false, "show what would happen without changing anything")
	flags.BoolVar(&o.http, "allow-http-sources", false, "allow recordings over plain http, as the operator does")
	flags.StringSliceVar(
		&o.sourceCIDRs,
		"allowed-source-cidrs",
		nil,
		"private address ranges that recordings may come from, as the operator's",
	)
	flags.StringVarP(&o.output, "output", "o", "table", "table or json")
	return cmd
}

// choose returns the ids that were named, or the filter of those to look for.
func (o *replayOptions) choose(args []string) (ids []int64, filter store.EventFilter, err error) {
	if err := checkOutput(o.output); err != nil {
		return nil, filter, err
	}
	chosen := o.filter.tenant+o.filter.call+o.filter.reason+o.filter.since+o.filter.until != "" ||
		o.filter.before > 0 || o.filter.partial || o.all
	if chosen == (len(args) > 0) {
		return nil, filter, cli.UsageError(
			nil,
			errors.New(
				"give either ids of events, or flags that choose among the dead ones: --tenant, --reason, --since, "+
					"or --all for every one",
			),
		)
	}
	for _, a := range args {
		id, err := parseEventID(a)
		if err != nil {
			return nil, filter, err
		}
		ids = append(ids, id)
	}
	filter, err = o.filter.parse(time.Now())
	return ids, filter, err
}

// replayEvents replays the chosen events one by one. It returns an error if one of them was not applied.
func replayEvents(cmd *cobra.Command, o replayOptions, args []string) error {
	ids, filter, err := o.choose(args)
	if err != nil {
		return err
	}
	cidrs, err := cli.ParseCIDRs("allowed-source-cidrs", o.sourceCIDRs)
	if err != nil {
		return cli.UsageError(cmd, err)
	}
	db, err := openEvents(cmd, o.databaseFile)
	if err != nil {
		return err
	}
	defer db.Close()
	reader, err := tenantReader()
	if err != nil {
		return err
	}
	r := &replayer{
		db: db,
		one: replay.Replayer{
			Store:   db,
			Reader:  reader,
			Sources: recording.SourcePolicy{AllowHTTP: o.http, AllowedCIDRs: cidrs},
			DryRun:  o.dryRun,
		},
	}
	if len(ids) > 0 {
		err = r.each(cmd.Context(), ids)
	} else {
		err = r.chosen(cmd.Context(), filter)
	}
	return errors.Join(r.print(cmd, o.output), err, r.left(err))
}

// replayer applies events one by one, and remembers what became of them.
type replayer struct {
	db      *store.Operator
	one     replay.Replayer
	results []replay.Result
	more    int64 // the last one of a list that was cut off
}

// each ends at the first error that is not about one event alone.
func (r *replayer) each(ctx context.Context, ids []int64) error {
	for _, id := range ids {
		result, err := r.one.ByID(ctx, id)
		if err != nil {
			return err
		}
		r.results = append(r.results, result)
	}
	return nil
}

// chosen goes through the dead events page by page.
func (r *replayer) chosen(ctx context.Context, filter store.EventFilter) error {
	for limit := filter.Limit; len(r.results) < limit; {
		filter.Limit = limit - len(r.results)
		page, err := r.db.Events(ctx, filter)
		if err != nil || len(page) == 0 {
			return err
		}
		ids := make([]int64, len(page))
		for i, e := range page {
			ids[i] = e.ID
		}
		if err := r.each(ctx, ids); err != nil {
			return err
		}
		filter.Before = ids[len(ids)-1]
	}
	r.more = filter.Before
	return nil
}

// print prints the results, and the id to continue from if there are more events.
func (r *replayer) print(cmd *cobra.Command, output string) error {
	if output == "json" {
		return cli.PrintJSON(cmd.OutOrStdout(), struct {
			Events []replay.Result `json:"events"`
			Before int64           `json:"before,omitempty"`
		}{append([]replay.Result{}, r.results...), r.more})
	}
	heading := strings.Join(eventprint.ResultHeading, "\t")
	err := cli.PrintTable(cmd.OutOrStdout(), heading, r.results, func(v replay.Result) string {
		return strings.Join(eventprint.ResultCells(v), "\t")
	})
	if r.more > 0 {
		cmd.PrintErrf("there may be more: add --before=%d\n", r.more)
	}
	return err
}

// left is an error when events are left that were not applied.
func (r *replayer) left(err error) error {
	n := 0
	for _, v := range r.results {
		if v.NotApplied() {
			n++
		}
	}
	if n == 0 || err != nil {
		return nil
	}
	return fmt.Errorf("%d of %d events are not applied: caly events show ID says what to do", n, len(r.results))
}

// tenantReader returns a reader of Tenants with the credentials of the environment.
func tenantReader() (client.Reader, error) {
	ctrl.SetLogger(logr.Discard())
	cfg, err := ctrl.GetConfig()
	if err != nil {
		return nil, err
	}
	scheme, err := newScheme()
	if err != nil {
		return nil, err
	}
	return client.New(cfg, client.Options{Scheme: scheme})
}
