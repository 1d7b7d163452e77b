package kubectl

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/caly-dev/caly/cmd/internal/cli"
	"github.com/caly-dev/caly/internal/adminapi"
	"github.com/caly-dev/caly/internal/adminapi/client"
)

// retryOptions are the flags of "recordings retry".
type retryOptions struct {
	scope
	filter     recordingFilter
	every, dry bool
}

func newRecordingsRetryCommand(s *Session) *cobra.Command {
	o := retryOptions{scope: scope{session: s}}
	cmd := &cobra.Command{
		Use:   "retry [ID...]",
		Short: "Upload failed recordings again",
		Long: `Puts failed recordings back into the queue with all their attempts: those that are named, or those that the flags choose.
A named recording that waits for its next attempt becomes due at once. Ends with status 1 when some of them could not be
put back. It needs the rights to list (with flags) or get (with ids) and to update recordings.`,
		Example: `  kubectl caly recordings retry 1f0c9a7be2d4c681 -n acme
  kubectl caly recordings retry --failed --code AccessDenied --since 24h -n acme --dry-run
  kubectl caly recordings retry --failed --all -A`,
		RunE: run(o.run),
	}
	o.addTo(cmd)
	o.filter.addTo(cmd, 1000)
	cmd.Flags().BoolVar(&o.every, "all", false, "every failed recording of the Tenants, up to the limit")
	cmd.Flags().BoolVar(&o.dry, "dry-run", false, "show which recordings would be retried, and change nothing")
	return cmd
}

// check returns errors of usage.
func (o *retryOptions) check(args []string) error {
	chosen := o.filter.code+o.filter.call+o.filter.since+o.filter.until != "" || o.every
	switch {
	case len(args) > 0 && (chosen || o.filter.failed):
		return cli.UsageError(nil, errors.New("give ids of recordings or flags that choose them, not both"))
	case len(args) == 0 && !chosen:
		return cli.UsageError(nil, errors.New("give ids of recordings, or choose failed ones by --code, --call, "+
			"--since and --until, or all of them by --all"))
	}
	return nil
}

// run finds the recordings and puts them back.
func (o *retryOptions) run(cmd *cobra.Command, args []string) error {
	if err := o.check(args); err != nil {
		return err
	}
	c, done, err := o.session.Client()
	if err != nil {
		return err
	}
	defer done()
	var chosen []adminapi.Recording
	more := false
	if len(args) > 0 {
		chosen, err = o.named(cmd.Context(), c, args)
	} else {
		chosen, more, err = o.failed(cmd.Context(), c)
	}
	if err != nil {
		return err
	}
	if o.dry {
		cmd.PrintErrf("%d recordings would be retried\n", len(chosen))
		return printList(cmd, o.output, chosen, more, recordingColumns)
	}
	results, err := o.retry(cmd.Context(), c, chosen)
	return errors.Join(printList(cmd, o.output, results, more, resultColumns), err, undone(results))
}

// named reads the recordings of arguments: their Tenants are known then.
func (o *retryOptions) named(
	ctx context.Context,
	c *client.Client,
	args []string,
) (list []adminapi.Recording, err error) {
	for _, argument := range args {
		object, err := o.object(argument)
		if err != nil {
			return nil, err
		}
		found, err := get[adminapi.Recording](ctx, c, adminapi.ResourceRecordings, object)
		if err != nil {
			return nil, err
		}
		list = append(list, found)
	}
	return list, nil
}

// failed lists the failed recordings that the flags choose.
func (o *retryOptions) failed(ctx context.Context, c *client.Client) ([]adminapi.Recording, bool, error) {
	namespace, tenant, err := o.resolve()
	if err != nil {
		return nil, false, err
	}
	o.filter.failed = true
	values := query(tenant)
	if err := o.filter.query(values); err != nil {
		return nil, false, err
	}
	return client.All[adminapi.Recording](
		ctx, c, adminapi.Path(namespace, adminapi.ResourceRecordings), values, o.filter.limit)
}

// retry puts recordings back in batches of one Tenant each, and returns what became of them.
func (o *retryOptions) retry(
	ctx context.Context, c *client.Client, list []adminapi.Recording,
) (results []adminapi.Result, err error) {
	var ids byTenant
	for _, found := range list {
		ids.add(found.Tenant, found.ID)
	}
	err = ids.each(func(namespace, name string, ids []string) error {
		path := adminapi.Path(namespace, adminapi.ResourceRecordings, adminapi.RetryPath)
		for batch := range slices.Chunk(ids, adminapi.MaxPage) {
			var done adminapi.Done
			if err := c.Post(ctx, path, adminapi.Retry{Tenant: name, IDs: batch}, &done); err != nil {
				return err
			}
			results = append(results, done.Results...)
		}
		return nil
	})
	return results, err
}

// resultColumns are those of a table of results.
var resultColumns = columns[adminapi.Result]{
	heading: []string{"TENANT", "ID", "RESULT"},
	cells: func(r adminapi.Result) []string {
		result := r.Result
		if r.Message != "" {
			result += ": " + r.Message
		}
		return []string{cli.Clean(r.Tenant), cli.Clean(r.ID), cli.Clean(result)}
	},
	name: func(r adminapi.Result) string { return cli.Clean(r.Tenant + "/" + r.ID) },
}

// undone is an error when some objects were not changed.
func undone(results []adminapi.Result) error {
	count := 0
	for _, result := range results {
		if result.Result != adminapi.ResultDone {
			count++
		}
	}
	if count == 0 {
		return nil
	}
	return fmt.Errorf("%d of %d objects were not changed", count, len(results))
}
