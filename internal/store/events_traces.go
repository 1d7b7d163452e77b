package store

// traces are the spans of those recordings of a batch whose events are traced, by column, as caly_add_traces takes them.
type traces struct {
	tenant, id, traceparent []string
}

// add appends the recordings of one event.
func (t *traces) add(e *Event) {
	for i := range e.Recordings {
		if e.Recordings[i].Rejected != "" {
			continue
		}
		t.tenant = append(t.tenant, e.Tenant)
		t.id = append(t.id, e.Recordings[i].ID)
		t.traceparent = append(t.traceparent, e.Traceparent)
	}
}

// arguments returns the arguments of caly_add_traces.
func (t *traces) arguments() arguments {
	return arguments{
		{"p_tenant", t.tenant},
		{"p_id", t.id},
		{"p_traceparent", t.traceparent},
	}
}
