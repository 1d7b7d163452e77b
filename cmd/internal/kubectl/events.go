package kubectl

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/caly-dev/caly/cmd/internal/cli"
	"github.com/caly-dev/caly/cmd/internal/eventprint"
	"github.com/caly-dev/caly/internal/adminapi"
	"github.com/caly-dev/caly/internal/adminapi/client"
	"github.com/caly-dev/caly/internal/eventview"
	"github.com/caly-dev/caly/internal/reason"
	"github.com/caly-dev/caly/internal/replay"
)

func newEventsCommand(s *Session) *cobra.Command {
	return group("events", "Show stored events, and apply again those that could not be applied",
		newEventsListCommand(s), newEventsShowCommand(s), newEventsReplayCommand(s))
}

// eventColumns are those of a table.
var eventColumns = columns[eventview.Event]{
	heading: eventprint.Heading,
	wide:    []string{"SOURCE"},
	cells: func(v eventview.Event) []string {
		return append(eventprint.Cells(v), cli.Dash(v.Source))
	},
	name: func(v eventview.Event) string { return cli.Clean(v.Tenant) + "/" + strconv.FormatInt(v.ID, 10) },
}

// eventFilter are the flags that choose events.
type eventFilter struct {
	window
	reason, call string
	partial, all bool
}

// addTo adds the flags.
func (f *eventFilter) addTo(cmd *cobra.Command, limit int) {
	f.window.addTo(cmd, "received", limit)
	cmd.Flags().StringVar(&f.reason, "reason", "", "why the events are dead: "+strings.Join(reason.Dead(), ", ")+
		"; with --partial why a field was left out: "+strings.Join(reason.Fields(), ", "))
	cmd.Flags().StringVar(&f.call, "call", "", "CallSid of the events' call")
	cmd.Flags().BoolVar(&f.partial, "partial", false,
		"events that were applied without fields that could not be read, or with a rejected recording")
}

// query adds the flags to the parameters of a list.
func (f *eventFilter) query(values map[string][]string) error {
	if f.partial && f.all {
		return cli.UsageError(nil, errors.New("give either --all or --partial"))
	}
	which := "dead"
	switch {
	case f.partial:
		which = "partial"
	case f.all:
		which = "all"
	}
	values["which"] = []string{which}
	setNonEmpty(values, "reason", f.reason)
	setNonEmpty(values, "call", f.call)
	return f.window.query(values)
}

func newEventsListCommand(s *Session) *cobra.Command {
	where := scope{session: s}
	var filter eventFilter
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List dead or partial events by Tenant, of each the newest first",
		Args:  cli.NoArgs,
		Long: `Lists events that could not be applied (dead), or that were applied without some fields (partial), by Tenant, of each the
newest first. It needs the right to list events.`,
		Example: `  kubectl caly events list -n acme
  kubectl caly events list -A --reason stale --since 24h
  kubectl caly events list -t acme/support --all --call c1f0 -o wide`,
		RunE: run(func(cmd *cobra.Command, _ []string) error {
			namespace, tenant, err := where.resolve()
			if err != nil {
				return err
			}
			values := query(tenant)
			if err := filter.query(values); err != nil {
				return err
			}
			return listAndPrint(cmd, s, &where, listing[eventview.Event]{
				path:    adminapi.Path(namespace, adminapi.ResourceEvents),
				query:   values,
				most:    filter.limit,
				columns: eventColumns,
			})
		}),
	}
	where.addTo(cmd)
	filter.addTo(cmd, 500)
	cmd.Flags().BoolVar(&filter.all, "all", false, "list applied events too")
	return cmd
}

func newEventsShowCommand(s *Session) *cobra.Command {
	where := scope{session: s}
	cmd := &cobra.Command{
		Use:   "show ID",
		Short: "Show an event, its request, and what to do about it",
		Args:  exactlyOne("the id of an event, which \"events list\" shows"),
		Long: `Shows an event with its request, in which the operator redacts secrets, and what to do about it. A request has telephone
numbers: it needs the right to get events.`,
		Example: `  kubectl caly events show 4711 -n acme
  kubectl caly events show acme/support/4711 -o yaml`,
		RunE: run(func(cmd *cobra.Command, args []string) error {
			return showAndPrint(cmd, &where, args[0], showing[eventview.Request]{
				resource: adminapi.ResourceEvents,
				name:     func(v eventview.Request) string { return eventColumns.name(v.Event) },
				print:    eventprint.Request,
			})
		}),
	}
	where.addTo(cmd)
	return cmd
}

// replayOptions are the flags of "events replay".
type replayOptions struct {
	scope
	filter     eventFilter
	every, dry bool
}

func newEventsReplayCommand(s *Session) *cobra.Command {
	o := replayOptions{scope: scope{session: s}}
	cmd := &cobra.Command{
		Use:   "replay [ID...]",
		Short: "Apply dead or partial events again, by what their Tenants say now",
		Long: `Applies the named events, or those that the flags choose, as if they came now. An event whose reason holds still stays dead.
One that was applied before is left alone, so that a repeat is harmless. Ends with status 1 when some of them are not
applied. It needs the rights to list (with flags) or get (with ids) and to update events.`,
		Example: `  kubectl caly events replay 4711 -n acme
  kubectl caly events replay --reason source_refused -t acme/support --dry-run
  kubectl caly events replay --partial -n acme`,
		RunE: run(o.run),
	}
	o.addTo(cmd)
	o.filter.addTo(cmd, 1000)
	cmd.Flags().BoolVar(&o.every, "all", false, "every dead event of the Tenants, up to the limit")
	cmd.Flags().BoolVar(&o.dry, "dry-run", false, "show what would happen, and change nothing")
	return cmd
}

// run chooses the events and applies them.
func (o *replayOptions) run(cmd *cobra.Command, args []string) error {
	chosen := o.filter.reason+o.filter.call+o.filter.since+o.filter.until != "" || o.filter.partial || o.every
	if chosen == (len(args) > 0) {
		return cli.UsageError(nil, errors.New("give either ids of events, or flags that choose among the dead ones: "+
			"--reason, --call, --since, --until, --partial, or --all for every one"))
	}
	c, done, err := o.session.Client()
	if err != nil {
		return err
	}
	defer done()
	ids, more, err := o.choose(cmd.Context(), c, args)
	if err != nil {
		return err
	}
	var results []replay.Result
	err = ids.each(func(namespace, name string, list []string) error {
		for batch := range slices.Chunk(list, adminapi.MaxReplay) {
			body := adminapi.Replay{Tenant: name, DryRun: o.dry}
			for _, text := range batch {
				id, _ := strconv.ParseInt(text, 10, 64) // the API's own
				body.IDs = append(body.IDs, id)
			}
			var replayed adminapi.Replayed
			path := adminapi.Path(namespace, adminapi.ResourceEvents, adminapi.ReplayPath)
			if err := c.Post(cmd.Context(), path, body, &replayed); err != nil {
				return err
			}
			results = append(results, replayed.Results...)
		}
		return nil
	})
	return errors.Join(printList(cmd, o.output, results, more, replayColumns), err, notApplied(results))
}

// choose returns the ids of the events of arguments, or of those that the flags choose.
func (o *replayOptions) choose(
	ctx context.Context,
	c *client.Client,
	args []string,
) (ids byTenant, more bool, err error) {
	for _, argument := range args {
		named, err := o.object(argument)
		if err != nil {
			return ids, false, err
		}
		found, err := get[eventview.Request](ctx, c, adminapi.ResourceEvents, named)
		if err != nil {
			return ids, false, err
		}
		ids.add(found.Tenant, strconv.FormatInt(found.ID, 10))
	}
	if len(args) > 0 {
		return ids, false, nil
	}
	namespace, tenant, err := o.resolve()
	if err != nil {
		return ids, false, err
	}
	values := query(tenant)
	if err := o.filter.query(values); err != nil {
		return ids, false, err
	}
	list, more, err := client.All[eventview.Event](
		ctx, c, adminapi.Path(namespace, adminapi.ResourceEvents), values, o.filter.limit)
	for _, found := range list {
		ids.add(found.Tenant, strconv.FormatInt(found.ID, 10))
	}
	return ids, more, err
}

// replayColumns are those of a table of results.
var replayColumns = columns[replay.Result]{
	heading: eventprint.ResultHeading,
	cells:   eventprint.ResultCells,
	name:    func(v replay.Result) string { return cli.Clean(v.Tenant) + "/" + strconv.FormatInt(v.ID, 10) },
}

// notApplied is an error when events are left that were not applied.
func notApplied(results []replay.Result) error {
	count := 0
	for _, result := range results {
		if result.NotApplied() {
			count++
		}
	}
	if count == 0 {
		return nil
	}
	return fmt.Errorf("%d of %d events are not applied; \"events show ID\" says what to do", count, len(results))
}
