package kubectl

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	appsv1 "k8s.io/api/apps/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrlclient "sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/cmd/internal/cli"
	"github.com/caly-dev/caly/internal/adminapi"
	"github.com/caly-dev/caly/internal/adminapi/client"
	"github.com/caly-dev/caly/internal/bounded"
	"github.com/caly-dev/caly/internal/buildinfo"
)

// Bounds of the status.
const (
	// maxCertificates is the number of hosts that are connected to.
	maxCertificates = 5
	// handshakeWithin bounds one of these connections.
	handshakeWithin = 5 * time.Second
)

// status is what is shown on one screen.
type status struct {
	Versions     versions          `json:"versions"`
	Components   []componentStatus `json:"components"`
	Certificates []certificate     `json:"certificates,omitempty"`
	Tenants      []tenantStatus    `json:"tenants"`
	// Missing says what could not be found out, and why.
	Missing []string `json:"missing,omitempty"`
}

type versions struct {
	Client   buildinfo.Info  `json:"client"`
	Operator *buildinfo.Info `json:"operator,omitempty"`
}

type componentStatus struct {
	Name    string `json:"name"`
	Ready   int32  `json:"ready"`
	Wanted  int32  `json:"wanted"`
	Updated int32  `json:"updated"`
	Image   string `json:"image"`
}

type certificate struct {
	Host  string    `json:"host"`
	Ends  time.Time `json:"ends,omitzero"`
	Error string    `json:"error,omitempty"`
}

type tenantStatus struct {
	Tenant  string `json:"tenant"`
	Ready   string `json:"ready"`
	Reason  string `json:"reason,omitempty"`
	Message string `json:"message,omitempty"`
	Backlog *int32 `json:"backlog,omitempty"`
	// LastBackfillAt is when a backfill last ended without an error.
	LastBackfillAt *time.Time         `json:"lastBackfillAt,omitempty"`
	Activity       *adminapi.Activity `json:"activity,omitempty"`
	conditions     []metav1.Condition
	urls           []v1alpha1.WebhookURL
}

func newStatusCommand(s *Session) *cobra.Command {
	f := scope{session: s}
	var skipCertificates bool
	cmd := &cobra.Command{
		Use:   "status [TENANT | NAMESPACE/TENANT]",
		Short: "Show versions, health, backlog, last events and certificates on one screen",
		Args:  cobra.MaximumNArgs(1),
		Example: `  kubectl caly status -A
  kubectl caly status acme/support`,
		RunE: run(func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				f.tenant = args[0]
			}
			namespace, tenant, err := f.resolve()
			if err != nil {
				return err
			}
			got, err := readStatus(cmd.Context(), s, namespace, tenant)
			if err != nil {
				return err
			}
			if !skipCertificates {
				got.Certificates = certificates(cmd.Context(), got.Tenants)
			}
			if f.output == outputJSON || f.output == outputYAML {
				return printObject(cmd, f.output, got)
			}
			return got.print(cmd, tenant != "")
		}),
	}
	f.addTo(cmd)
	cmd.Flags().BoolVar(
		&skipCertificates, "skip-certificates", false, "do not connect to the hosts of the webhook URLs",
	)
	return cmd
}

// readStatus reads the Tenants, and what can be found out of the rest.
func readStatus(ctx context.Context, s *Session, namespace, tenant string) (*status, error) {
	c, err := s.Cluster()
	if err != nil {
		return nil, err
	}
	got := &status{Versions: versions{Client: s.Version}}
	if got.Tenants, err = c.tenants(ctx, namespace, tenant); err != nil {
		return nil, err
	}
	deployments, err := c.deployments(ctx)
	got.miss("components", err)
	for i := range deployments {
		got.Components = append(got.Components, componentOf(&deployments[i]))
	}
	api, done, err := s.Client()
	if err != nil {
		got.miss("the operator", err)
		return got, nil
	}
	defer done()
	var operator buildinfo.Info
	if err := api.Get(ctx, adminapi.VersionPath, nil, &operator); err != nil {
		got.miss("the operator", err)
		return got, nil
	}
	got.Versions.Operator = &operator
	activities, more, err := client.All[adminapi.Activity](
		ctx, api, adminapi.Path(namespace, adminapi.ResourceTenants), query(tenant), maxObjects)
	got.miss("events and uploads", err)
	if more {
		got.Missing = append(
			got.Missing, fmt.Sprintf("events and uploads: only those of the first %d Tenants", maxObjects),
		)
	}
	for i := range got.Tenants {
		for j := range activities {
			if activities[j].Tenant == got.Tenants[i].Tenant {
				got.Tenants[i].Activity = &activities[j]
			}
		}
	}
	return got, nil
}

// miss notes what could not be found out.
func (s *status) miss(what string, err error) {
	if err != nil {
		s.Missing = append(s.Missing, what+": "+bounded.Text(err.Error(), 300))
	}
}

// tenants returns the Tenants of a namespace or of all, or one of them.
func (c *cluster) tenants(ctx context.Context, namespace, name string) ([]tenantStatus, error) {
	var list v1alpha1.TenantList
	if err := c.List(ctx, &list, ctrlclient.InNamespace(namespace)); err != nil {
		return nil, fmt.Errorf("list Tenants: %w", err)
	}
	found := []tenantStatus{}
	for i := range list.Items {
		if tenant := &list.Items[i]; name == "" || tenant.Name == name {
			found = append(found, tenantOf(tenant))
		}
	}
	if name != "" && len(found) == 0 {
		return nil, fmt.Errorf("no Tenant %s/%s", namespace, name)
	}
	slices.SortFunc(found, func(a, b tenantStatus) int { return cmp.Compare(a.Tenant, b.Tenant) })
	return found, nil
}

func tenantOf(t *v1alpha1.Tenant) tenantStatus {
	s := tenantStatus{
		Tenant:     t.ID(),
		Ready:      "Unknown",
		Backlog:    t.Status.Backlog,
		conditions: t.Status.Conditions,
		urls:       t.Status.WebhookURLs,
	}
	if ready := apimeta.FindStatusCondition(t.Status.Conditions, v1alpha1.ConditionReady); ready != nil {
		s.Ready = string(ready.Status)
		s.Reason = ready.Reason
		s.Message = ready.Message
	}
	if b := t.Status.Backfill; b != nil && b.LastSuccessTime != nil {
		s.LastBackfillAt = &b.LastSuccessTime.Time
	}
	return s
}

func componentOf(d *appsv1.Deployment) componentStatus {
	wanted := int32(1)
	if d.Spec.Replicas != nil {
		wanted = *d.Spec.Replicas
	}
	return componentStatus{
		Name:    cmp.Or(d.Labels[componentLabel], d.Name),
		Ready:   d.Status.ReadyReplicas,
		Wanted:  wanted,
		Updated: d.Status.UpdatedReplicas,
		Image:   image(&d.Spec.Template.Spec),
	}
}

// certificates connects to the https hosts of the webhook URLs.
func certificates(ctx context.Context, tenants []tenantStatus) []certificate {
	var hosts []string
	for _, tenant := range tenants {
		for _, address := range tenant.urls {
			if u, err := url.Parse(address.URL); err == nil && u.Scheme == "https" && !slices.Contains(hosts, u.Host) {
				hosts = append(hosts, u.Host)
			}
		}
	}
	var list []certificate
	for _, host := range hosts[:min(len(hosts), maxCertificates)] {
		ends, err := certificateEnd(ctx, host)
		c := certificate{Host: host, Ends: ends}
		if err != nil {
			c.Error = bounded.Text(err.Error(), 200)
		}
		list = append(list, c)
	}
	return list
}

// certificateEnd returns when the certificate of a host ends, from a verified handshake.
func certificateEnd(ctx context.Context, host string) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, handshakeWithin)
	defer cancel()
	address := host
	if _, _, err := net.SplitHostPort(host); err != nil {
		address = net.JoinHostPort(strings.Trim(host, "[]"), "443")
	}
	conn, err := (&tls.Dialer{Config: &tls.Config{MinVersion: tls.VersionTLS12}}).DialContext(ctx, "tcp", address)
	if err != nil {
		return time.Time{}, err
	}
	defer func() { _ = conn.Close() }()
	chain := conn.(*tls.Conn).ConnectionState().PeerCertificates
	if len(chain) == 0 {
		return time.Time{}, errors.New("no certificate")
	}
	return chain[0].NotAfter, nil
}

// print prints the screen; with the conditions for one Tenant.
func (s *status) print(cmd *cobra.Command, conditions bool) error {
	cmd.Println("Client:   " + s.Versions.Client.String())
	if s.Versions.Operator != nil {
		cmd.Println("Operator: " + s.Versions.Operator.String())
	}
	out := cmd.OutOrStdout()
	if len(s.Components) > 0 {
		cmd.Println()
		if err := cli.PrintTable(
			out, "COMPONENT\tREADY\tUP-TO-DATE\tIMAGE", s.Components,
			func(c componentStatus) string {
				return fmt.Sprintf(
					"%s\t%d/%d\t%d\t%s", cli.Clean(c.Name), c.Ready, c.Wanted, c.Updated, cli.Clean(c.Image),
				)
			},
		); err != nil {
			return err
		}
	}
	if len(s.Certificates) > 0 {
		cmd.Println()
		if err := cli.PrintTable(out, "CERTIFICATE\tENDS", s.Certificates, func(c certificate) string {
			if c.Error != "" {
				return cli.Clean(c.Host) + "\t" + cli.Clean(c.Error)
			}
			return cli.Clean(c.Host) + "\t" + c.Ends.UTC().Format(time.DateOnly)
		}); err != nil {
			return err
		}
	}
	cmd.Println()
	if err := cli.PrintTable(
		out,
		"TENANT\tREADY\tREASON\tBACKLOG\tOLDEST\tSTREAMS\tLAST-EVENT\tLAST-UPLOAD\tLAST-BACKFILL",
		s.Tenants,
		tenantStatus.cells,
	); err != nil {
		return err
	}
	if conditions {
		for _, t := range s.Tenants {
			for _, c := range t.conditions {
				cmd.Printf("\n%s %s: %s (%s ago)\n  %s\n", c.Type, c.Status, c.Reason,
					age(c.LastTransitionTime.Time), cli.Clean(c.Message))
			}
		}
	}
	for _, missing := range s.Missing {
		cmd.PrintErrln("not found out: " + cli.Clean(missing))
	}
	return nil
}

// cells is a row of the table.
func (t tenantStatus) cells() string {
	ago := func(at *time.Time) string {
		if at == nil {
			return "-"
		}
		return age(*at)
	}
	backlog, oldest, streams, event, upload := "-", "-", "-", "-", "-"
	if t.Backlog != nil {
		backlog = strconv.Itoa(int(*t.Backlog))
	}
	if a := t.Activity; a != nil {
		backlog = strconv.Itoa(a.Waiting)
		oldest = ago(a.OldestWaitingAt)
		streams = strconv.Itoa(a.Streams)
		event = ago(a.LastEventAt)
		upload = ago(a.LastUploadAt)
	}
	return strings.Join([]string{
		cli.Clean(t.Tenant),
		t.Ready,
		cli.Dash(t.Reason),
		backlog,
		oldest,
		streams,
		event,
		upload,
		ago(t.LastBackfillAt),
	}, "\t")
}
