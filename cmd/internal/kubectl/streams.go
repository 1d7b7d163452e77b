package kubectl

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/caly-dev/caly/cmd/internal/cli"
	"github.com/caly-dev/caly/internal/adminapi"
	"github.com/caly-dev/caly/internal/adminapi/client"
)

func newStreamsCommand(s *Session) *cobra.Command {
	return group("streams", "Show audio streams, and close live ones",
		newStreamsListCommand(s), newStreamsShowCommand(s), newStreamsCloseCommand(s))
}

// streamColumns are those of a table.
var streamColumns = columns[adminapi.Stream]{
	heading: []string{"TENANT", "ID", "CALL", "POD", "AGE", "STATE", "TO AGENT", "TO EXOTEL", "DROPPED"},
	wide:    []string{"AGENT", "STARTED", "SEEN", "END"},
	cells: func(v adminapi.Stream) []string {
		state := "live"
		switch {
		case v.EndedAt != nil:
			state = "ended"
		case v.Closing:
			state = "closing"
		}
		return []string{
			cli.Clean(v.Tenant),
			cli.Clean(v.ID),
			cli.Dash(v.CallSID),
			cli.Dash(v.Pod),
			age(v.StartedAt),
			state,
			strconv.FormatInt(v.ToAgent.Frames, 10),
			strconv.FormatInt(v.ToExotel.Frames, 10),
			strconv.FormatInt(v.ToAgent.Dropped+v.ToExotel.Dropped, 10),
			cli.Dash(v.Agent),
			stamp(&v.StartedAt),
			stamp(&v.LastSeenAt),
			cli.Dash(v.EndReason),
		}
	},
	name: func(v adminapi.Stream) string { return cli.Clean(v.Tenant + "/" + v.ID) },
}

func newStreamsListCommand(s *Session) *cobra.Command {
	where := scope{session: s}
	var times window
	var call string
	var ended bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List live streams by Tenant, of each the newest first",
		Args:  cli.NoArgs,
		Long: `Lists live streams by Tenant, of each the newest first. Ended ones stay for 30 days: --ended lists them too. It needs the
right to list streams.`,
		Example: `  kubectl caly streams list -n acme
  kubectl caly streams list -A -o wide
  kubectl caly streams list -t acme/support --ended --since 1h`,
		RunE: run(func(cmd *cobra.Command, _ []string) error {
			namespace, tenant, err := where.resolve()
			if err != nil {
				return err
			}
			values := query(tenant)
			values.Set("live", strconv.FormatBool(!ended))
			setNonEmpty(values, "call", call)
			if err := times.query(values); err != nil {
				return err
			}
			return listAndPrint(cmd, s, &where, listing[adminapi.Stream]{
				path:    adminapi.Path(namespace, adminapi.ResourceStreams),
				query:   values,
				most:    times.limit,
				columns: streamColumns,
			})
		}),
	}
	where.addTo(cmd)
	times.addTo(cmd, "started", 500)
	cmd.Flags().StringVar(&call, "call", "", "CallSid of the streams' call")
	cmd.Flags().BoolVar(&ended, "ended", false, "list ended streams too")
	return cmd
}

func newStreamsShowCommand(s *Session) *cobra.Command {
	where := scope{session: s}
	cmd := &cobra.Command{
		Use:   "show ID",
		Short: "Show a stream: what passed, and how it ended",
		Args:  exactlyOne("the id of a stream, which \"streams list\" shows"),
		Example: `  kubectl caly streams show 1b4e28ba-2fa1-41d2-883f-0016d3cca427 -n acme
  kubectl caly streams show acme/support/1b4e28ba-2fa1-41d2-883f-0016d3cca427 -o json`,
		RunE: run(func(cmd *cobra.Command, args []string) error {
			return showAndPrint(cmd, &where, args[0], showing[adminapi.Stream]{
				resource: adminapi.ResourceStreams,
				name:     streamColumns.name,
				print:    printStream,
			})
		}),
	}
	where.addTo(cmd)
	return cmd
}

// printStream prints a stream's fields.
func printStream(cmd *cobra.Command, v adminapi.Stream) {
	counts := func(c adminapi.Counts) string {
		return fmt.Sprintf("%d frames, %d bytes, %d frames dropped", c.Frames, c.Bytes, c.Dropped)
	}
	var fields pairs
	fields.add("Tenant", v.Tenant)
	fields.add("Stream", v.ID)
	fields.add("Call", v.CallSID)
	fields.add("StreamSid", v.StreamSID)
	fields.add("Pod", v.Pod)
	fields.add("Agent", v.Agent)
	fields.add("Started", stamp(&v.StartedAt))
	fields.add("Seen", stamp(&v.LastSeenAt))
	fields.add("Ended", stamp(v.EndedAt))
	fields.add("End", v.EndReason)
	if v.EndedAt == nil {
		fields.add("Closing", strconv.FormatBool(v.Closing))
	}
	fields.add("To agent", counts(v.ToAgent))
	fields.add("To Exotel", counts(v.ToExotel))
	fields.print(cmd)
}

func newStreamsCloseCommand(s *Session) *cobra.Command {
	where := scope{session: s}
	var every bool
	cmd := &cobra.Command{
		Use:   "close [ID...]",
		Short: "Close live streams by their ids, or with --all those of a Tenant",
		Long: `Closes live streams within a second or two. Exotel gets a normal close, so its flow continues. The tenant's audit log
has the change. It needs the right to delete streams, and with ids the right to get them.`,
		Example: `  kubectl caly streams close 1b4e28ba-2fa1-41d2-883f-0016d3cca427 -n acme
  kubectl caly streams close --all -t acme/support
  kubectl caly streams list -n acme -o name | xargs kubectl caly streams close`,
		RunE: run(func(cmd *cobra.Command, args []string) error {
			if every == (len(args) > 0) {
				return cli.UsageError(nil, errors.New("give ids of streams, or --all with --tenant"))
			}
			c, done, err := s.Client()
			if err != nil {
				return err
			}
			defer done()
			if every {
				return closeAll(cmd, c, &where)
			}
			return closeNamed(cmd, c, &where, args)
		}),
	}
	where.addTo(cmd)
	cmd.Flags().BoolVar(&every, "all", false, "all live streams of the Tenant")
	return cmd
}

// closeAll closes all live streams of one Tenant.
func closeAll(cmd *cobra.Command, c *client.Client, where *scope) error {
	namespace, tenant, err := where.one()
	if err != nil {
		return err
	}
	var closed adminapi.Closed
	path := adminapi.Path(namespace, adminapi.ResourceStreams, adminapi.ClosePath)
	if err := c.Post(cmd.Context(), path, adminapi.Close{Tenant: tenant, All: true}, &closed); err != nil {
		return err
	}
	if where.output == outputJSON || where.output == outputYAML {
		return printObject(cmd, where.output, closed)
	}
	cmd.Printf("%d streams of %s/%s will be closed\n", closed.Count, namespace, tenant)
	return nil
}

// closeNamed closes the streams of arguments.
func closeNamed(cmd *cobra.Command, c *client.Client, where *scope, args []string) error {
	ids := byTenant{}
	for _, argument := range args {
		o, err := where.object(argument)
		if err != nil {
			return err
		}
		if o.tenant == "" {
			found, err := get[adminapi.Stream](cmd.Context(), c, adminapi.ResourceStreams, o)
			if err != nil {
				return err
			}
			ids.add(found.Tenant, o.id)
			continue
		}
		ids.add(o.namespace+"/"+o.tenant, o.id)
	}
	var results []adminapi.Result
	err := ids.each(func(namespace, name string, ids []string) error {
		for batch := range slices.Chunk(ids, adminapi.MaxPage) {
			var closed adminapi.Closed
			path := adminapi.Path(namespace, adminapi.ResourceStreams, adminapi.ClosePath)
			if err := c.Post(cmd.Context(), path, adminapi.Close{Tenant: name, IDs: batch}, &closed); err != nil {
				return err
			}
			results = append(results, closed.Results...)
		}
		return nil
	})
	return errors.Join(printList(cmd, where.output, results, false, resultColumns), err, undone(results))
}

// window are the flags of a list that bound its times and its length.
type window struct {
	since, until string
	limit        int
}

// addTo adds the flags.
func (w *window) addTo(cmd *cobra.Command, what string, limit int) {
	cmd.Flags().StringVar(&w.since, "since", "", what+" since this time: 24h, 2026-01-31 or 2026-01-31T10:00:00Z")
	cmd.Flags().StringVar(&w.until, "until", "", what+" before this time; same format as --since")
	cmd.Flags().IntVar(&w.limit, "limit", limit, "maximum number of objects")
}

// query adds the flags to the parameters of a list.
func (w *window) query(values map[string][]string) error {
	if w.limit < 1 || w.limit > maxListed {
		return cli.UsageError(nil, fmt.Errorf("--limit must be between 1 and %d", maxListed))
	}
	for name, text := range map[string]string{"since": w.since, "until": w.until} {
		at, err := cli.ParseWhen(name, text, time.Now())
		if err != nil {
			return cli.UsageError(nil, err)
		}
		if !at.IsZero() {
			values[name] = []string{at.UTC().Format(time.RFC3339Nano)}
		}
	}
	return nil
}
