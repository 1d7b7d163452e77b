package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/cmd/internal/cli"
	"github.com/caly-dev/caly/internal/ingest"
	"github.com/caly-dev/caly/internal/recording"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/tenantconfig"
	"github.com/caly-dev/caly/internal/tenantconfig/compile"
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
	tenants, err := newTenants()
	if err != nil {
		return err
	}
	r := &replayer{
		db:      db,
		tenants: tenants,
		sources: recording.SourcePolicy{AllowHTTP: o.http, AllowedCIDRs: cidrs},
		dryRun:  o.dryRun,
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
	tenants *tenants
	sources recording.SourcePolicy
	dryRun  bool
	results []replayResult
	more    int64 // the last one of a list that was cut off
}

// What became of an event.
const (
	resultApplied   = "applied"
	resultDuplicate = "duplicate"
	resultDead      = "dead"
	resultFailed    = "failed"
)

type replayResult struct {
	ID      int64  `json:"id"`
	Tenant  string `json:"tenant,omitempty"`
	CallSID string `json:"callSID,omitempty"`
	Result  string `json:"result"`
	Reason  string `json:"reason,omitempty"`
	Message string `json:"message,omitempty"`
	DryRun  bool   `json:"dryRun,omitempty"`
}

// each ends at the first error that is not about one event alone.
func (r *replayer) each(ctx context.Context, ids []int64) error {
	for _, id := range ids {
		result, err := r.one(ctx, id)
		if err != nil {
			return err
		}
		result.ID = id
		result.DryRun = r.dryRun
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

// one replays a single event. A missing event or Tenant is a result; only an error of the database or the cluster is
// an error.
func (r *replayer) one(ctx context.Context, id int64) (replayResult, error) {
	kept, err := r.db.Event(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		return replayResult{Result: resultFailed, Message: "there is no such event"}, nil
	}
	if err != nil {
		return replayResult{}, err
	}
	result := replayResult{Tenant: kept.Tenant, CallSID: kept.CallSID}
	if kept.Reason == "" && len(kept.Unread) == 0 {
		result.Result = resultDuplicate
		result.Message = "it was applied before"
		return result, nil
	}
	tenant, err := r.tenants.get(ctx, kept.Tenant)
	if err != nil {
		return result, err
	}
	if tenant.gone != "" {
		result.Result = resultFailed
		result.Reason = kept.Reason
		result.Message = tenant.gone
		return result, nil
	}
	event, err := ingest.Again(tenant.config, r.sources, kept)
	if err != nil {
		result.Result = resultFailed
		result.Reason = kept.Reason
		result.Message = err.Error()
		return result, nil
	}
	done, err := r.db.Replay(ctx, id, event, r.dryRun)
	if event.CallSID != "" {
		result.CallSID = event.CallSID
	}
	result.settle(done)
	return result, err
}

// settle sets result and message from what the store did.
func (r *replayResult) settle(done store.Replay) {
	switch done.Outcome {
	case store.Applied:
		r.Result = resultApplied
	case store.Duplicate:
		r.Result = resultDuplicate
		r.Reason = done.Reason
		r.Message = "it was applied before"
		if done.Reason != "" {
			r.Message += ", and stays as it is: this version cannot apply it again"
		}
	default:
		r.Result = resultDead
		r.Reason = done.Reason
	}
}

// print prints the results, and the id to continue from if there are more events.
func (r *replayer) print(cmd *cobra.Command, output string) error {
	if output == "json" {
		return cli.PrintJSON(cmd.OutOrStdout(), struct {
			Events []replayResult `json:"events"`
			Before int64          `json:"before,omitempty"`
		}{append([]replayResult{}, r.results...), r.more})
	}
	err := cli.PrintTable(cmd.OutOrStdout(), "ID\tTENANT\tCALL\tRESULT\tREASON", r.results, func(v replayResult) string {
		result := v.Result
		if v.DryRun {
			result = "would be " + result
		}
		if v.Message != "" {
			result += ": " + v.Message
		}
		return fmt.Sprintf("%d\t%s\t%s\t%s\t%s", v.ID, cli.Dash(v.Tenant), cli.Dash(v.CallSID), cli.Clean(result), cli.Dash(v.Reason))
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
		if v.Result == resultDead || v.Result == resultFailed {
			n++
		}
	}
	if n == 0 || err != nil {
		return nil
	}
	return fmt.Errorf("%d of %d events are not applied: caly events show ID says what to do", n, len(r.results))
}

// tenants reads Tenants from the cluster, each once.
type tenants struct {
	client client.Client
	known  map[string]foundTenant
}

// foundTenant is what applying an event again needs of its tenant, or why there is none to be had.
type foundTenant struct {
	config *tenantconfig.Tenant
	gone   string
}

// newTenants returns a reader of Tenants and Secrets with the credentials of the environment.
func newTenants() (*tenants, error) {
	ctrl.SetLogger(logr.Discard())
	cfg, err := ctrl.GetConfig()
	if err != nil {
		return nil, err
	}
	scheme, err := newScheme()
	if err != nil {
		return nil, err
	}
	c, err := client.New(cfg, client.Options{Scheme: scheme})
	return &tenants{client: c, known: map[string]foundTenant{}}, err
}

// get returns errors that are not about this tenant alone.
func (t *tenants) get(ctx context.Context, id string) (foundTenant, error) {
	if known, ok := t.known[id]; ok {
		return known, nil
	}
	ns, name, err := splitTenant(id)
	if err != nil {
		return foundTenant{
			gone: "its tenant's id cannot be a Tenant's",
		}, nil //nolint:nilerr // it is told of this event
	}
	var tenant v1alpha1.Tenant
	err = t.client.Get(ctx, client.ObjectKey{Namespace: ns, Name: name}, &tenant)
	switch {
	case apierrors.IsNotFound(err):
		t.known[id] = foundTenant{gone: "its Tenant does not exist any more"}
	case apierrors.IsForbidden(err): // in a namespace that is not watched any more, say
		t.known[id] = foundTenant{gone: "its Tenant may not be read from here"}
	case err != nil:
		return foundTenant{}, fmt.Errorf("read the Tenant %s: %w", id, err)
	default:
		t.known[id] = foundTenant{config: compile.Tenant(&tenant)}
	}
	return t.known[id], nil
}
