package webhook

import (
	"net/http"

	"github.com/caly-dev/caly/dataplane/problem"
	"github.com/caly-dev/caly/dataplane/verify"
	"github.com/caly-dev/caly/internal/exotel"
	"github.com/caly-dev/caly/internal/ingest"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

// verified returns the tenant whose webhook this is, and what of the request may be believed. An unknown tenant and a wrong
// signature are refused alike, so that nobody learns from outside which tenants exist. While the pod lacks tenant
// configs, every tenant that it does not know is answered 503.
func (h *Handler) verified(
	r *http.Request, request *verify.Request, to destination, in *received,
) (*tenantconfig.Tenant, ingest.Delivery, error) {
	now := request.Now
	body := request.Body
	all := exotel.Request{
		Method:      r.Method,
		RawQuery:    r.URL.RawQuery,
		ContentType: r.Header.Get("Content-Type"),
		Body:        body,
	}
	if err := in.charge(exotel.Weight(all)); err != nil {
		return nil, ingest.Delivery{}, err
	}
	tenants := h.o.Tenants()
	shared := to.tenantID == ""
	tenant, reason := find(tenants, to, all)
	var verifiers *tenantconfig.Webhooks
	if tenant != nil {
		verifiers = tenant.Webhooks
		to.tenantID = tenant.ID
	}
	verdict := verify.Verify(verifiers, request)
	switch {
	case tenant == nil && !tenants.Complete():
		return nil, ingest.Delivery{}, problem.TenantUnknown()
	case tenant == nil:
		return nil, ingest.Delivery{}, h.refuse(to, reason, verdict.Missing)
	case !verdict.OK:
		return nil, ingest.Delivery{}, h.refuse(to, verdict.Reason, verdict.Missing)
	case tenant.Suspended:
		return nil, ingest.Delivery{}, problem.New(problem.Forbidden, "the tenant is suspended")
	}
	fields, kept := splitQuery(r.URL.RawQuery, tokenName(verifiers))
	delivery := ingest.Delivery{
		Kind:        to.kind,
		Source:      ingest.SourceWebhook,
		ContentType: all.ContentType,
		Raw:         body,
		Query:       kept,
		ReceivedAt:  now,
	}
	delivery.Fields = believed(verdict, all, fields)
	delivery.SignedDigest = verdict.SignedDigest
	delivery.Fields.EventSID = r.Header.Get(exotel.EventSIDHeader)
	delivery.Whole = shared && !ownsEach(tenants, tenant, delivery.Fields, r.URL.RawQuery)
	if delivery.Whole && !tenants.Complete() { // a tenant config that is yet to come may change whom the events lead to
		return nil, ingest.Delivery{}, problem.TenantUnknown()
	}
	return tenant, delivery, nil
}

// believed returns the part of a request that the verdict covers. Fields are read from that part only, since an
// attacker who has seen one signed request could add to it.
func believed(v verify.Verdict, all exotel.Request, query string) exotel.Request {
	part := exotel.Request{Method: all.Method}
	if v.CoversQuery {
		part.RawQuery = query
	}
	if v.CoversBody {
		part.ContentType = all.ContentType
		part.Body = all.Body
	}
	return part
}

// tokenName is the query parameter that carries the tenant's token.
func tokenName(w *tenantconfig.Webhooks) string {
	if w == nil || w.Token == nil {
		return ""
	}
	return w.Token.Query
}

// unproven is the problem of a webhook that did not prove where it comes from, and what only the log has of it.
type unproven struct {
	*problem.Problem
	reason, tenantID string
}

// Unwrap returns the problem.
func (u *unproven) Unwrap() error { return u.Problem }

func (h *Handler) refuse(to destination, reason string, missing bool) error {
	h.m.unproven.WithLabelValues(reason).Inc()
	outside := "the webhook's signature was not accepted"
	if missing {
		outside = "Missing webhook signature"
	}
	return &unproven{problem.New(problem.InvalidSignature, outside), reason, to.tenantID}
}
