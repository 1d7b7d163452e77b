package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/caly-dev/caly/cmd/internal/cli"
	"github.com/caly-dev/caly/internal/store"
)

func newSessionsCommand() *cobra.Command {
	o := &sessionsOptions{}
	cmd := &cobra.Command{
		Use:   "sessions",
		Short: "Show and close live audio streams",
		Args:  cli.NoArgs,
		RunE:  help,
		Long:  "In a cluster: kubectl -n caly-system exec deploy/caly-operator -- /caly sessions list --tenant=acme/support",
	}
	cmd.PersistentFlags().StringVar(
		&o.file, "database-url-file", "", "file with the operator's database URL (or CALY_DATABASE_URL)",
	)
	cmd.PersistentFlags().StringVar(&o.tenant, "tenant", "", "namespace/name of a Tenant")
	cmd.AddCommand(newSessionsListCommand(o), newSessionsCloseCommand(o))
	return cmd
}

// sessionsOptions are the flags of every command.
type sessionsOptions struct{ file, tenant string }

// open checks the flags and connects as the operator does.
func (o *sessionsOptions) open(cmd *cobra.Command) (*store.Operator, error) {
	if o.tenant != "" {
		if _, _, err := splitTenant(o.tenant); err != nil {
			return nil, cli.UsageError(nil, err)
		}
	}
	return openOperator(cmd.Context(), o.file, "caly-sessions")
}

// maxSessionsListed bounds a list.
const maxSessionsListed = 10_000

func newSessionsListCommand(o *sessionsOptions) *cobra.Command {
	var output string
	var limit int
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the live streams, oldest first: of a tenant, or of all",
		Args:  cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkOutput(output); err != nil {
				return err
			}
			if limit < 1 || limit > maxSessionsListed {
				return cli.UsageError(nil, fmt.Errorf("--limit must be between 1 and %d", maxSessionsListed))
			}
			db, err := o.open(cmd)
			if err != nil {
				return err
			}
			defer db.Close()
			list, err := db.LiveStreams(cmd.Context(), o.tenant, limit+1)
			if err != nil {
				return err
			}
			return printSessions(cmd, list, limit, output)
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "table", "table or json")
	cmd.Flags().IntVar(&limit, "limit", 1000, "maximum number of streams")
	return cmd
}

// streamView is a live stream in JSON.
type streamView struct {
	ID         string    `json:"id"`
	Tenant     string    `json:"tenant"`
	CallSID    string    `json:"callSid"`
	StreamSID  string    `json:"streamSid"`
	Pod        string    `json:"pod"`
	Agent      string    `json:"agent"`
	StartedAt  time.Time `json:"startedAt"`
	LastSeenAt time.Time `json:"lastSeenAt"`
	Closing    bool      `json:"closing"`
	// As of LastSeenAt.
	ToAgent  countsView `json:"toAgent"`
	ToExotel countsView `json:"toExotel"`
}

// countsView are the counts of one direction in JSON.
type countsView struct {
	Frames  int64 `json:"frames"`
	Bytes   int64 `json:"bytes"`
	Dropped int64 `json:"dropped"`
}

// printSessions prints a list, which may have one too many.
func printSessions(cmd *cobra.Command, list []store.StreamSession, limit int, output string) error {
	views := []streamView{}
	for _, s := range list[:min(len(list), limit)] {
		views = append(views, streamView{
			ID:         s.ID,
			Tenant:     s.Tenant,
			CallSID:    s.CallSID,
			StreamSID:  s.StreamSID,
			Pod:        s.Pod,
			Agent:      s.Agent,
			StartedAt:  s.StartedAt.UTC(),
			LastSeenAt: s.LastSeenAt.UTC(),
			Closing:    s.Closing,
			ToAgent:    countsView(s.ToAgent),
			ToExotel:   countsView(s.ToExotel),
		})
	}
	more := len(list) > limit
	if output == "json" {
		return cli.PrintJSON(cmd.OutOrStdout(), struct {
			Sessions []streamView `json:"sessions"`
			More     bool         `json:"more,omitempty"`
		}{views, more})
	}
	err := cli.PrintTable(
		cmd.OutOrStdout(), "TENANT\tCALL\tPOD\tAGENT\tSTARTED\tSEEN\tTO AGENT\tTO EXOTEL\tDROPPED\tCLOSING\tID", views,
		func(v streamView) string {
			return fmt.Sprintf(
				"%s\t%s\t%s\t%s\t%s\t%s\t%d\t%d\t%d\t%t\t%s",
				cli.Clean(v.Tenant),
				cli.Clean(v.CallSID),
				cli.Clean(v.Pod),
				cli.Clean(v.Agent),
				v.StartedAt.Format(time.RFC3339),
				v.LastSeenAt.Format(time.RFC3339),
				v.ToAgent.Frames,
				v.ToExotel.Frames,
				v.ToAgent.Dropped+v.ToExotel.Dropped,
				v.Closing,
				v.ID,
			)
		},
	)
	if more {
		cmd.PrintErrln("there are more: raise --limit, or give --tenant")
	}
	return err
}

func newSessionsCloseCommand(o *sessionsOptions) *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:   "close [ID...]",
		Short: "Close live streams by their ids, or with --all those of a tenant",
		Long: "The pods that have the streams close them within a second or two. Exotel gets a " +
			"normal close, so its flow continues.",
		RunE: func(cmd *cobra.Command, ids []string) error {
			if err := checkClose(o.tenant, all, ids); err != nil {
				return err
			}
			db, err := o.open(cmd)
			if err != nil {
				return err
			}
			defer db.Close()
			if all {
				n, err := db.CloseStreams(cmd.Context(), o.tenant, store.Origin{})
				if err == nil {
					cmd.Printf("%d streams of %s will be closed\n", n, o.tenant)
				}
				return err
			}
			return closeSessions(cmd, db, o.tenant, ids)
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "all live streams of the tenant")
	return cmd
}

// checkClose returns errors of usage.
func checkClose(tenant string, all bool, ids []string) error {
	switch {
	case all && len(ids) > 0:
		return cli.UsageError(nil, errors.New("give ids or --all, not both"))
	case all && tenant == "":
		return cli.UsageError(nil, errors.New("--all needs --tenant: the namespace/name of a Tenant"))
	case !all && len(ids) == 0:
		return cli.UsageError(
			nil, errors.New("give the ids of streams, which caly sessions list shows, or --tenant and --all"),
		)
	}
	for _, id := range ids {
		if !store.ValidID(id) {
			return cli.UsageError(nil, fmt.Errorf("%.64q is not a stream id: caly sessions list shows them", id))
		}
	}
	return nil
}

// closeSessions asks for the end of each; those that have ended already do not keep the others from it.
func closeSessions(cmd *cobra.Command, db *store.Operator, tenant string, ids []string) error {
	var missing []string
	for _, id := range ids {
		ref, err := closeSession(cmd.Context(), db, tenant, id)
		switch {
		case errors.Is(err, store.ErrNotFound), errors.Is(err, store.ErrStreamEnded):
			missing = append(missing, id)
		case err != nil:
			return err
		default:
			cmd.Printf("the stream %s of %s will be closed\n", ref.ID, ref.Tenant)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf(
			"no live stream has the id %s: caly sessions list shows those that there are", strings.Join(missing, ", "),
		)
	}
	return nil
}

// closeSession asks for the end of one, of a tenant or of whichever has the id.
func closeSession(ctx context.Context, db *store.Operator, tenant, id string) (ref store.StreamRef, err error) {
	if tenant == "" {
		if tenant, err = db.TenantOfStream(ctx, id); err != nil {
			return ref, err
		}
	}
	streamSession, err := db.CloseStream(ctx, tenant, id, store.Origin{})
	return streamSession.StreamRef, err
}
