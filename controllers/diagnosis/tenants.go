package diagnosis

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"time"

	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/doctor"
	"github.com/caly-dev/caly/internal/exotel/calldetails"
)

const (
	// overdue is how long a recording may wait in a healthy installation.
	overdue = 15 * time.Minute
	// backfillLate is how long after its time a backfill may run.
	backfillLate = 15 * time.Minute
	// soon is how long before its end a certificate is reported.
	soon = 14 * 24 * time.Hour
)

// tenantChecks returns the checks of the Tenants of a namespace; of all with "".
func (d *Diagnosis) tenantChecks(ctx context.Context, namespace string) []doctor.Check {
	failed := func(area, message string) []doctor.Check {
		return []doctor.Check{{
			Area:   area,
			Name:   "list",
			Within: time.Second,
			Run: func(context.Context) []doctor.Finding {
				return one(doctor.Skipped, message, "")
			},
		}}
	}
	var list v1alpha1.TenantList
	if err := d.Client.List(ctx, &list, client.InNamespace(namespace)); err != nil {
		return failed("tenants", "Tenants cannot be listed: "+err.Error())
	}
	var checks []doctor.Check
	tenants := list.Items
	slices.SortFunc(tenants, func(a, b v1alpha1.Tenant) int { return cmp.Compare(a.ID(), b.ID()) })
	if len(tenants) > maxTenants {
		checks = failed(
			"tenants",
			fmt.Sprintf("%d of %d Tenants are not looked at; name a namespace", len(tenants)-maxTenants, len(tenants)),
		)
		tenants = tenants[:maxTenants]
	}
	hosts := map[string]bool{}
	for i := range tenants {
		tenant := &tenants[i]
		checks = append(checks, doctor.Check{
			Area:   "tenants",
			Name:   "conditions",
			Within: time.Second,
			Run:    func(context.Context) []doctor.Finding { return named(tenant, d.conditions(tenant)) },
		}, doctor.Check{
			Area:   "storage",
			Name:   "bucket",
			Within: 15 * time.Second,
			Run:    func(ctx context.Context) []doctor.Finding { return named(tenant, d.bucket(ctx, tenant)) },
		})
		base := origin(cmp.Or(tenant.Spec.Exotel.APIBaseURL, calldetails.BaseURL(string(tenant.Spec.Exotel.Region))))
		if hosts[base] {
			continue
		}
		hosts[base] = true
		if len(hosts) <= maxHosts {
			checks = append(checks, doctor.Check{
				Area:   "network",
				Name:   "Exotel's API",
				Within: 10 * time.Second,
				Run:    func(ctx context.Context) []doctor.Finding { return d.egress(ctx, base) },
			})
		}
	}
	if len(hosts) > maxHosts {
		checks = append(checks, failed("network",
			fmt.Sprintf("%d of %d hosts are not asked; name a namespace", len(hosts)-maxHosts, len(hosts)))...)
	}
	return append(checks, doctor.Check{
		Area:   "recordings",
		Name:   "backlog",
		Within: 10 * time.Second,
		Run:    func(ctx context.Context) []doctor.Finding { return d.backlog(ctx, tenants) },
	})
}

// named sets the object of findings.
func named(tenant *v1alpha1.Tenant, found []doctor.Finding) []doctor.Finding {
	for i := range found {
		found[i].Object = tenant.ID()
	}
	return found
}

// conditions reports what the controllers found out, and whether backfill still runs.
func (d *Diagnosis) conditions(tenant *v1alpha1.Tenant) []doctor.Finding {
	var found []doctor.Finding
	if condition := apimeta.FindStatusCondition(tenant.Status.Conditions, v1alpha1.ConditionReady); condition == nil {
		found = one(doctor.Warning, "the operator has not looked at the Tenant yet", "look at the operator's log")
	} else if condition.Status != "True" {
		found = one(doctor.Warning, fmt.Sprintf("%s: %s", condition.Reason, condition.Message),
			"see the reason in docs/reference.md#conditions-and-reasons")
	}
	if tenant.Status.ObservedGeneration >= 0 && tenant.Status.ObservedGeneration < tenant.Generation {
		found = append(found, one(doctor.Warning, "the operator has not looked at the last change of the Tenant",
			"look at the operator's log")...)
	}
	if b := tenant.Status.Backfill; b != nil && b.NextRunTime != nil && d.Now().Sub(b.NextRunTime.Time) > backfillLate {
		found = append(found, one(doctor.Warning,
			"backfill was due at "+b.NextRunTime.UTC().Format(time.RFC3339)+" and did not run",
			"see docs/runbooks/CalyBackfillOld.md")...)
	}
	return found
}

// origin returns the root of the host of an address, so that each host is asked once.
func origin(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return address
	}
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: "/"}).String()
}

// egress connects to an address as backfill does. Any answer of HTTP is one: the request has no credentials.
func (d *Diagnosis) egress(ctx context.Context, base string) []doctor.Finding {
	host := base
	if u, err := url.Parse(base); err == nil {
		host = u.Host
	}
	fail := func(err error) []doctor.Finding {
		return []doctor.Finding{
			{
				Severity: doctor.Warning,
				Object:   host,
				Message:  "no answer: " + cause(err).Error(),
				Fix:      "look at DNS, NetworkPolicies, egressProxy and sources.allowedCIDRs; uploads and backfill need this host",
			},
		}
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodHead, base, http.NoBody)
	if err != nil {
		return fail(err)
	}
	begin := time.Now()
	response, err := d.HTTP.RoundTrip(request)
	if err != nil {
		return fail(err)
	}
	took := time.Since(begin)
	_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, 1<<10))
	_ = response.Body.Close()
	found := []doctor.Finding{{
		Severity: doctor.OK,
		Object:   host,
		Message:  fmt.Sprintf("answered %d in %s", response.StatusCode, took.Round(time.Millisecond)),
	}}
	if at, err := http.ParseTime(response.Header.Get("Date")); err == nil {
		if skew := d.Now().Sub(at); skew.Abs() > took+mostClock {
			found = append(found, doctor.Finding{
				Severity: doctor.Warning,
				Object:   host,
				Message: fmt.Sprintf(
					"the clock of the operator's node and that of the host differ by %s", skew.Abs().Round(time.Second),
				),
				Fix: "synchronise the clocks of the nodes: signed webhooks, S3 requests and tokens have times",
			})
		}
	}
	return append(found, d.certificate(host, response.TLS)...)
}

// cause leaves out the URL of an error of net/http.
func cause(err error) error {
	var failed *url.Error
	if errors.As(err, &failed) {
		return failed.Err
	}
	return err
}

// certificate reports one that ends soon.
func (d *Diagnosis) certificate(host string, state *tls.ConnectionState) []doctor.Finding {
	if state == nil || len(state.PeerCertificates) == 0 {
		return nil
	}
	end := state.PeerCertificates[0].NotAfter
	if end.Sub(d.Now()) > soon {
		return nil
	}
	return []doctor.Finding{{
		Severity: doctor.Warning,
		Object:   host,
		Message:  "the certificate ends at " + end.UTC().Format(time.RFC3339),
		Fix:      "renew the certificate of the host",
	}}
}

// suspended reports whether the operator has suspended the Tenant, by its spec or by the platform.
func suspended(tenant *v1alpha1.Tenant) bool {
	return apimeta.IsStatusConditionTrue(tenant.Status.Conditions, v1alpha1.ConditionSuspended)
}

// backlog reports recordings that wait for longer than they should.
func (d *Diagnosis) backlog(ctx context.Context, tenants []v1alpha1.Tenant) []doctor.Finding {
	backlogs, err := d.Store.Backlogs(ctx, 1000)
	if err != nil {
		return one(doctor.Skipped, "recordings cannot be counted: "+err.Error(), "")
	}
	looked := map[string]bool{}
	for i := range tenants {
		looked[tenants[i].ID()] = !suspended(&tenants[i]) // the recordings of a suspended Tenant wait by intention
	}
	var found []doctor.Finding
	waiting := 0
	for _, backlog := range backlogs {
		if !looked[backlog.Tenant] {
			continue
		}
		waiting += backlog.Ready
		if age := d.Now().Sub(backlog.OldestReady); !backlog.OldestReady.IsZero() && age > overdue {
			found = append(found, doctor.Finding{
				Severity: doctor.Critical,
				Object:   backlog.Tenant,
				Message: fmt.Sprintf("%d recordings wait for upload, the oldest for %s; %d are being uploaded",
					backlog.Ready, age.Round(time.Minute), backlog.Leased),
				Fix: "see docs/how-to/find-out-why-a-recording-is-not-uploaded.md",
			})
		}
	}
	if len(found) == 0 {
		return one(doctor.OK, fmt.Sprintf("%d recordings wait, each for less than %s", waiting, overdue), "")
	}
	return found
}
