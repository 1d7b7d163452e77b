package tenantapi

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/caly-dev/caly/dataplane/api"
	"github.com/caly-dev/caly/internal/store"
)

type tenantOut struct {
	Body struct {
		ID        string   `json:"id" doc:"namespace/name"`
		Suspended bool     `json:"suspended"`
		Features  Features `json:"features"`
	}
}

// Features are what a tenant can do.
type Features struct {
	OpenRegistration bool `json:"openRegistration" doc:"Anybody may register. Otherwise an admin invites."`
	Downloads        bool `json:"downloads" doc:"Links to download recordings can be made."`
}

// Count is a number that is counted up to a bound.
type Count struct {
	Count   int  `json:"count"`
	AtLeast bool `json:"atLeast" doc:"The bound was reached: there may be more."`
}

func countOf(n, bound int) Count { return Count{n, n >= bound} }

// Spans are counts of the current day and month.
type Spans struct {
	Today     Count `json:"today"`
	ThisMonth Count `json:"thisMonth"`
}

// Uploads are recordings that were uploaded in the current month.
type Uploads struct {
	Count
	Bytes int64 `json:"bytes" doc:"The size of those that were counted."`
}

// Backlog is what waits.
type Backlog struct {
	Waiting   Count `json:"waiting"`
	Uploading Count `json:"uploading"`
}

type usageOut struct {
	Body struct {
		DayBegan   time.Time `json:"dayBegan" doc:"In the tenant's time zone, as the month's beginning."`
		MonthBegan time.Time `json:"monthBegan"`
		Calls      Spans     `json:"calls" doc:"By when they were heard of first."`
		Recordings Spans     `json:"recordings" doc:"By when they were heard of first."`
		Uploads    Uploads   `json:"uploadsThisMonth"`
		Backlog    Backlog   `json:"backlog"`
	}
}

const tenantTag = "Tenant"

func (h handlers) tenant(a *api.API) {
	api.Register(a, api.Operation{
		Method:  http.MethodGet,
		Path:    "/api/tenant",
		ID:      "getTenant",
		Tag:     tenantTag,
		Access:  api.SignedIn,
		Summary: "Your tenant",
	}, h.getTenant)
	api.Register(a, api.Operation{
		Method:  http.MethodGet,
		Path:    "/api/tenant/usage",
		ID:      "getUsage",
		Tag:     tenantTag,
		Access:  api.Roles(store.RoleAdmin),
		Summary: "What the tenant has used today and this month",
		Description: fmt.Sprintf(
			"Calls, recordings and uploads are counted up to %d each, the backlog up to %d of either: beyond that "+
				"the tenant's metrics tell.",
			store.MaxUsage, store.MaxWaiting,
		),
	}, h.getUsage)
}

func (h handlers) getTenant(ctx context.Context, _ *struct{}) (*tenantOut, error) {
	t := api.TenantOf(ctx)
	out := &tenantOut{}
	out.Body.ID = t.ID
	out.Body.Suspended = t.Suspended
	out.Body.Features = Features{OpenRegistration: t.Auth.OpenRegistration, Downloads: t.Storage != nil}
	return out, nil
}

func (h handlers) getUsage(ctx context.Context, _ *struct{}) (*usageOut, error) {
	zone, err := time.LoadLocation(api.TenantOf(ctx).TimeZone)
	if err != nil {
		zone = time.UTC // the operator checks it, so this is a pod without the database of time zones
	}
	now := h.Now().In(zone)
	day := time.Date(now.Year(), now.Month(), now.Day(), 0, 0, 0, 0, zone)
	month := time.Date(now.Year(), now.Month(), 1, 0, 0, 0, 0, zone)
	usage, err := h.Store.Usage(ctx, tenantOf(ctx), day, month)
	if err != nil {
		return nil, err
	}
	out := &usageOut{}
	b := &out.Body
	bound := store.MaxUsage
	b.DayBegan = day
	b.MonthBegan = month
	b.Calls = Spans{countOf(usage.CallsToday, bound), countOf(usage.CallsThisMonth, bound)}
	b.Recordings = Spans{countOf(usage.RecordingsToday, bound), countOf(usage.RecordingsThisMonth, bound)}
	b.Uploads = Uploads{countOf(usage.UploadedThisMonth, bound), usage.UploadedBytes}
	b.Backlog = Backlog{countOf(usage.Waiting, store.MaxWaiting), countOf(usage.Uploading, store.MaxWaiting)}
	return out, nil
}
