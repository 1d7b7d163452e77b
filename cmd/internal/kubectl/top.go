package kubectl

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/caly-dev/caly/cmd/internal/cli"
	"github.com/caly-dev/caly/internal/adminapi"
	"github.com/caly-dev/caly/internal/adminapi/client"
)

// activityColumns are those of a table.
var activityColumns = columns[adminapi.Activity]{
	heading: []string{"TENANT", "STREAMS", "WAITING", "OLDEST", "LAST EVENT", "LAST UPLOAD"},
	cells: func(v adminapi.Activity) []string {
		return []string{
			cli.Clean(v.Tenant),
			strconv.Itoa(v.Streams),
			strconv.Itoa(v.Waiting),
			agoOrDash(v.OldestWaitingAt),
			agoOrDash(v.LastEventAt),
			agoOrDash(v.LastUploadAt),
		}
	},
	name: func(v adminapi.Activity) string { return cli.Clean(v.Tenant) },
}

// agoOrDash returns how long ago a time was; "-" without one.
func agoOrDash(at *time.Time) string {
	if at == nil {
		return "-"
	}
	return age(*at)
}

// orders are the values of --sort-by: each puts the busiest Tenant first.
var orders = map[string]func(a, b adminapi.Activity) int{
	"streams": func(a, b adminapi.Activity) int { return cmp.Compare(b.Streams, a.Streams) },
	"waiting": func(a, b adminapi.Activity) int { return cmp.Compare(b.Waiting, a.Waiting) },
	"tenant":  func(a, b adminapi.Activity) int { return strings.Compare(a.Tenant, b.Tenant) },
}

func newTopCommand(s *Session) *cobra.Command {
	where := scope{session: s}
	var sortBy string
	var limit int
	cmd := &cobra.Command{
		Use:   "top",
		Short: "Show the live streams and the waiting recordings of each Tenant, the busiest first",
		Args:  cli.NoArgs,
		Long: `Shows the live streams and the recordings that wait for an upload pod, counted up to 1000 of each Tenant, and how long ago
the last event and the last upload were. It needs the right to list tenants.`,
		Example: `  kubectl caly top -A
  kubectl caly top -n acme --sort-by waiting`,
		RunE: run(func(cmd *cobra.Command, _ []string) error {
			order, ok := orders[sortBy]
			if !ok {
				return cli.UsageError(nil, fmt.Errorf("--sort-by %q is not one of streams, waiting and tenant", sortBy))
			}
			if limit < 1 || limit > maxListed {
				return cli.UsageError(nil, fmt.Errorf("--limit must be between 1 and %d", maxListed))
			}
			namespace, tenant, err := where.resolve()
			if err != nil {
				return err
			}
			c, done, err := s.Client()
			if err != nil {
				return err
			}
			defer done()
			list, _, err := client.All[adminapi.Activity](
				cmd.Context(), c, adminapi.Path(namespace, adminapi.ResourceTenants), query(tenant), maxListed)
			if err != nil {
				return err
			}
			slices.SortStableFunc(list, order)
			return printList(cmd, where.output, list[:min(len(list), limit)], len(list) > limit, activityColumns)
		}),
	}
	where.addTo(cmd)
	cmd.Flags().StringVar(&sortBy, "sort-by", "streams", "streams, waiting or tenant")
	cmd.Flags().IntVar(&limit, "limit", 50, "maximum number of Tenants")
	return cmd
}
