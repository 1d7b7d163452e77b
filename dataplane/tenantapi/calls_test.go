package tenantapi_test

import (
	"fmt"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestCalls(t *testing.T) {
	rig := newRig(t)
	for n := range 4 {
		rig.insertCall(t, acme, fmt.Sprintf("c%d", n), ago(time.Duration(n)*time.Hour))
	}
	rig.db.Exec(
		t, `UPDATE calls SET state = 7, direction = 'outbound-api', from_number = 'sip:a b' WHERE call_sid = 'c2'`,
	)
	for query, want := range map[string][]string{
		"":                                   {"c0", "c1", "c2", "c3"},
		"state=failed":                       {"c2"},
		"state=completed&limit=1":            {"c0"},
		"state=unknown":                      nil,
		"direction=inbound":                  {"c0", "c1", "c3"},
		"from=%2B918047491899":               {"c0", "c1", "c3"},
		"from=+918047491899":                 {"c0", "c1", "c3"}, // as people write it, though a plus sign is a blank there
		"from=08047491899":                   {"c0", "c1", "c3"},
		"from=918047491899":                  {"c0", "c1", "c3"},
		"from=00918047491899":                {"c0", "c1", "c3"},
		"from=%2B0+80474-91899":              {"c0", "c1", "c3"},
		"from=8047491898":                    nil,
		"from=sip:a+b":                       {"c2"},
		"to=%2B6531290000&direction=inbound": {"c0", "c1", "c3"},
		"to=%2B653129":                       nil,
		"since=" + ago(2*time.Hour).Format(time.RFC3339): {"c0", "c1", "c2"},
		"until=" + ago(2*time.Hour).Format(time.RFC3339): {"c3"},
		"since=" + ago(2*time.Hour).Format(time.RFC3339) + "&until=" +
			ago(time.Hour).Format(time.RFC3339): {"c2"},
		"since=" + url.QueryEscape(ago(time.Hour).In(time.FixedZone("",
			5*3600+1800)).Format(time.RFC3339)) + "&limit=200": {"c0", "c1"},
	} {
		var got items
		rig.get(t, "/api/calls?"+query, bearer(acme, "viewer"), &got)
		if diff := cmp.Diff(want, got.all("callSid")); diff != "" {
			t.Errorf("%q (-want +got):\n%s", query, diff)
		}
	}
}

func TestCall(t *testing.T) {
	rig := newRig(t)
	rig.insertCall(t, acme, "c0", ago(time.Hour))
	rig.db.Exec(
		t, `UPDATE calls SET recording_ids = ARRAY[$1, $2] WHERE call_sid = 'c0'`, recordingID(1), recordingID(2),
	)
	rig.db.Exec(t, `INSERT INTO call_streams (tenant, call_sid, stream_sid, status, duration_seconds, recording_url)
		VALUES ($1, 'c0', 's0', 'completed', 9, 'https://secret.example/?signature=topsecret')`, acme)
	rig.db.Exec(t, `UPDATE calls SET whole_weight = 4 WHERE call_sid = 'c0'`)
	rig.db.Exec(t, `UPDATE calls SET legs = '{"dial:7/1": {"number": "0912", "weight": 6, "at": "2026-03-10T14:00:09Z"},
		"agent:a": {"agent": "a@b", "presence": 2, "at": "2026-03-10T14:00:05Z"}, "dial:8/1": {"number": "0913",
			"weight": 4, "seconds": 40}}'
		WHERE call_sid = 'c0'`)
	rig.insertRecording(t, acme, recordingID(1), "c0", "uploaded", "b", "acme/support/x.mp3", ago(time.Hour))
	rig.insertRecording(t, acme, recordingID(2), "c0", "pending", "", "", ago(time.Minute))
	var got map[string]any
	rig.get(t, "/api/calls/c0", bearer(acme, "viewer"), &got)
	at := "2026-03-10T14:00:00Z"
	later := "2026-03-10T14:01:00Z"
	want := map[string]any{
		"callSid":             "c0",
		"state":               "completed",
		"exotelState":         "completed",
		"direction":           "inbound",
		"from":                "+918047491899",
		"to":                  "+6531290000",
		"startedAt":           at,
		"conversationSeconds": 7.0,
		"createdAt":           at,
		"updatedAt":           at,
		"legs": []any{map[string]any{"kind": "dial", "number": "0913", "state": "completed", "onCallSeconds": 40.0},
			map[string]any{
				"kind":          "agent",
				"agent":         "a@b",
				"presence":      "free",
				"onCallSeconds": 0.0,
				"reportedAt":    "2026-03-10T14:00:05Z",
			},
			map[string]any{
				"kind":          "dial",
				"number":        "0912",
				"state":         "no-answer",
				"onCallSeconds": 0.0,
				"reportedAt":    "2026-03-10T14:00:09Z",
			}},
		"streams": []any{map[string]any{"streamSid": "s0", "status": "completed", "durationSeconds": 9.0}},
		"recordings": []any{
			map[string]any{
				"id":        recordingID(2),
				"callSid":   "c0",
				"source":    "exotel",
				"state":     "pending",
				"attempts":  0.0,
				"createdAt": "2026-03-10T14:59:00Z",
				"nextTryAt": "2026-03-10T14:59:00Z",
			},
			map[string]any{
				"id":         recordingID(1),
				"callSid":    "c0",
				"source":     "exotel",
				"state":      "uploaded",
				"attempts":   1.0,
				"size":       11.0,
				"sha256":     "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
				"createdAt":  at,
				"finishedAt": later,
			}},
	}
	delete(got, "$schema")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	rig.insertCall(t, acme, "c1", ago(0))
	rig.get(t, "/api/calls/c1", bearer(acme, "viewer"), &got)
	if diff := cmp.Diff([]any{[]any{}, []any{}, []any{}}, []any{got["legs"], got["streams"],
		got["recordings"]}); diff != "" {
		t.Errorf("a call with nothing has empty lists (-want +got):\n%s", diff)
	}
	if answer := rig.ask("GET", "/api/calls/nobody", bearer(acme, "viewer"), ""); answer.Status != 404 ||
		answer.Code() != "not_found" {
		t.Errorf("a call that is not there: %d %s", answer.Status, answer.Body)
	}
}

func TestRecordings(t *testing.T) {
	rig := newRig(t)
	for n, state := range []string{"pending", "uploaded", "uploading", "failed"} {
		rig.insertRecording(
			t,
			acme,
			recordingID(n),
			fmt.Sprintf("c%d", n/2),
			state,
			"b",
			"acme/support/k.mp3",
			ago(time.Duration(n)*time.Hour),
		)
	}
	ids := func(n ...int) (list []string) {
		for _, n := range n {
			list = append(list, recordingID(n))
		}
		return list
	}
	for query, want := range map[string][]string{
		"":                        ids(0, 1, 2, 3),
		"state=pending":           ids(0),
		"state=uploaded":          ids(1),
		"state=uploading":         ids(2),
		"state=failed":            ids(3),
		"callSid=c1":              ids(2, 3),
		"callSid=c1&state=failed": ids(3),
		"callSid=nobody":          nil,
		"since=" + ago(time.Hour).Format(time.RFC3339): ids(0, 1),
		"until=" + ago(time.Hour).Format(time.RFC3339): ids(2, 3),
	} {
		var got items
		rig.get(t, "/api/recordings?"+query, bearer(acme, "viewer"), &got)
		if diff := cmp.Diff(want, got.all("id")); diff != "" {
			t.Errorf("%q (-want +got):\n%s", query, diff)
		}
	}
	var got map[string]any
	rig.get(t, "/api/recordings/"+recordingID(3), bearer(acme, "viewer"), &got)
	if got["state"] != "failed" || got["errorCode"] != "SourceGone" || got["nextTryAt"] != nil ||
		got["sha256"] != "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" {
		t.Errorf("a failed recording: %v", got)
	}
	if answer := rig.ask("GET", "/api/recordings/"+recordingID(9), bearer(acme, "viewer"), ""); answer.Status != 404 ||
		answer.Code() != "not_found" {
		t.Errorf("a recording that is not there: %d %s", answer.Status, answer.Body)
	}
}

// TestPages walks every list to its end, with rows of one time among them and others that come meanwhile.
func TestPages(t *testing.T) {
	for path, tc := range map[string]struct {
		field string
		want  int
	}{
		"/api/calls":      {"callSid", 23},
		"/api/recordings": {"id", 23},
		"/api/streams":    {"id", 23},
		"/api/audit":      {"id", 23 + 3},
		"/api/users":      {"email", 23 + 3},
	} {
		t.Run(path, func(t *testing.T) {
			rig := newRig(t)
			for n := range 23 {
				at := ago(time.Duration(n/5) * time.Minute)
				rig.insertCall(t, acme, fmt.Sprintf("c%02d", n), at)
				rig.insertRecording(
					t,
					acme,
					recordingID(n),
					"c",
					[]string{"pending", "uploaded", "failed"}[n%3],
					"b",
					"acme/support/k",
					at,
				)
				rig.db.Exec(
					t,
					`INSERT INTO audit_log (tenant, action, outcome, at) VALUES ($1, 'login', 'success', $2)`,
					acme,
					at,
				)
				rig.insertStream(t, acme, streamID(n), "c", []string{"", "call_ended"}[n%2], at)
				rig.db.Exec(
					t,
					`INSERT INTO users (tenant, id, email, role) VALUES ($1, gen_random_uuid(), $2, 'viewer')`,
					acme,
					fmt.Sprintf("p%02d@acme.example", n),
				)
			}
			var seen []string
			cursor := ""
			for page := 0; page == 0 || cursor != ""; page++ {
				var got items
				rig.get(t, path+"?limit=5&cursor="+cursor, bearer(acme, "admin"), &got)
				if len(got.Items) > 5 || len(got.Items) == 0 || page > 10 {
					t.Fatalf("page %d has %d items", page, len(got.Items))
				}
				seen = append(seen, got.all(tc.field)...)
				cursor = got.NextCursor
				rig.insertCall(t, acme, fmt.Sprintf("new%d", page), now.Add(time.Hour)) // in front of all
			}
			slices.Sort(seen)
			if n := len(slices.Compact(slices.Clone(seen))); n != len(seen) || n != tc.want {
				t.Errorf("%d items, %d of them different, want %d", len(seen), n, tc.want)
			}
		})
	}
}
