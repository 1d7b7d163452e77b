package exotel

// This file is the one table of what Exotel's products spell: names of fields, statuses, types of events and
// directions. The spellings of times and numbers are in times.go and number.go.
//
// Names are compared without their case, "_" and "-", so CallSid stands for callSid and call_sid too. A source in
// brackets: [S] is Exotel's support centre and classic developer portal, [D] docs.exotel.com, [N]
// developer.exotel.com/docs, [X] Exotel's own sample code, [P] tests and captures of third parties.
//
//	[S1] https://developer.exotel.com/api/statuscallback
//	[S2] https://support.exotel.com/support/solutions/articles/48283-working-with-passthru-applet
//	[S3] https://developer.exotel.com/api/receive-outbound-call-notifications
//	[S4] https://support.exotel.com/support/solutions/articles/3000132269 (streams)
//	[S5] https://developer.exotel.com/api/call-legs-beta
//	[S6] https://support.exotel.com/support/solutions/articles/3000087475 (cause codes)
//	[S7] https://support.exotel.com/support/solutions/articles/27323-call-status
//	[N1] https://developer.exotel.com/docs/voice-v3/api-reference/call-details
//	[N2] https://developer.exotel.com/docs/exoml/event-endpoint
//	[N3] https://developer.exotel.com/docs/voice-v3/api-reference/voice-log-download
//	[N4] https://developer.exotel.com/docs/ip-pstn-webrtc/api-reference/call-notifications
//	[N5] https://developer.exotel.com/docs/campaigns/api-reference/webhooks
//	[N6] https://developer.exotel.com/docs/voice-api (Voice v2, its call details)
//	[P1] frappe/erpnext, erpnext/tests/test_exotel.py
//	[P2] frappe/crm, crm/integrations/exotel/handler.py
//	[P3] tests of an integration that finds recordings in legs, RecordingUrlList and Legs[].Url
//	[P4] tests of an integration with StatusCallbacks of Voice v2

// field is a fact that a webhook tells, whatever its spelling.
type field uint8

// The fields that are read.
const (
	fieldCallSID field = iota
	fieldLegSID
	fieldAccountSID
	fieldEventSID
	fieldEventName
	fieldEventType
	fieldNotification
	fieldNotificationTime
	fieldCampaign
	fieldCampaignNumber
	fieldCallDetail
	fieldCallState
	fieldStatus
	fieldDialStatus
	fieldCallType
	fieldDirection
	fieldFrom
	fieldTo
	fieldExoPhone
	fieldContact
	fieldCustomer
	fieldStarted
	fieldCreated
	fieldEnded
	fieldUpdated
	fieldRequested
	fieldEventTime
	fieldAvailable
	fieldTalk
	fieldLeg1
	fieldLeg2
	fieldCustom
	fieldRecording
	fieldRecordingSeconds
	fieldAgent
	fieldDialled
	fieldFlow
	fieldStreamSID
	fieldStreamStatus
	fieldStreamSeconds
	fieldStreamBy
	fieldStreamError
	fieldStreamDetail
	fieldStreamURL
	fieldStreamRecording
	// fieldUnused stands for the documented fields that nothing needs.
	fieldUnused
	fieldCount
)

// within are the objects in which products nest their fields. "*" in a spelling stands for each of them, and for none.
var within = []string{
	"",
	"call_details",           // Voice v3 [N1]
	"event_details",          // Voice v3 [N1]
	"data",                   // ExoML [N2]
	"event_data[data]",       // ExoML [N2]
	"event_data",             // ExoML, other version [N2]
	"Call",                   // Dial-Whom URL as POST of JSON; Call Details
	"response[call_details]", // Voice v3, answer of its API [N1]
}

// spellings are the names of each field. If a request has several, the first of them counts.
var spellings = [fieldCount][]string{
	fieldCallSID: {
		"*CallSid",                    // [S1] [S2]
		"Sid",                         // Call Details, v1
		"Call[Sid]",                   // Dial-Whom URL as POST of JSON
		"call_details[sid]",           // [N1]
		"response[call_details][sid]", // [N1]
	},
	fieldLegSID:           {"*leg_sid"},                          // [N2]
	fieldAccountSID:       {"*AccountSid", "*ExotelAccountSid"},  // [N2], [S3]
	fieldEventSID:         {"event_sid"},                         // [N2]
	fieldEventName:        {"event_name"},                        // [N2]
	fieldEventType:        {"*EventType"},                        // [S1], [N1], [P2]
	fieldNotification:     {"event"},                             // [N4]
	fieldNotificationTime: {"timestamp"},                         // [N4]
	fieldCampaign:         {"campaign_sid"},                      // [N5]
	fieldCampaignNumber:   {"number"},                            // [N5]
	fieldCallDetail:       {"CallDetail"},                        // [S3]
	fieldCallState:        {"*CallState", "*state"},              // [S3] and [P4], [N1] and [N2]
	fieldStatus:           {"*Status", "*CallStatus"},            // [S1] and [N1], [S2] and [S3]
	fieldDialStatus:       {"*DialCallStatus"},                   // [S2]
	fieldCallType:         {"*CallType"},                         // [S2]
	fieldDirection:        {"*Direction"},                        // [S1] [S2] [N1]
	fieldFrom:             {"*From", "*CallFrom", "*FromNumber"}, // [S1], [S2], [S3]
	fieldTo:               {"*To", "*CallTo", "*ToNumber"},       // [S1], [S2], [S3]
	fieldExoPhone: {
		"*PhoneNumberSid", // [S1]
		"*exophone",       // [N2]
		"*VirtualNumber",  // [S3] [N1]
		"*PhoneNumber",    // Call Details, v1
	},
	fieldContact: {"*contact_uri"}, // [N2]
	fieldCustomer: { // [P4], [N6]
		"call_details[customer_details][contact_uri]", "call_details[customer_details][number]",
		"response[call_details][customer_details][contact_uri]", "response[call_details][customer_details][number]",
	},
	fieldStarted:   {"*StartTime"},                                              // [S1] [S2] [N1] [N2]
	fieldCreated:   {"*DateCreated", "*Created", "*created_time", "*CreatedAt"}, // [S1], [S2], [N1], [S3]
	fieldEnded:     {"*EndTime"},                                                // [S1] [S2] [N1] [N2]
	fieldUpdated:   {"*DateUpdated", "*updated_time", "*UpdatedAt"},             // [S1], [N1], [S3]
	fieldRequested: {"CurrentTime"},                                             // [S2]
	fieldEventTime: {"event_timestamp"},                                         // [N2]
	fieldAvailable: {"RecordingAvailableBy"},                                    // [P1]
	fieldTalk: {
		"*ConversationDuration",                                                // [S1]
		"*total_talk_time",                                                     // [N1]
		"Details[ConversationDuration]", "Call[Details][ConversationDuration]", // Call Details, v1
		"OnCallDuration", // [P1]
	},
	fieldLeg1:   {"Leg1Status", "Details[Leg1Status]", "Call[Details][Leg1Status]"}, // Call Details, v1
	fieldLeg2:   {"Leg2Status", "Details[Leg2Status]", "Call[Details][Leg2Status]"},
	fieldCustom: {"*CustomField", "*action_custom_parameter"}, // [S1], [N2]
	fieldRecording: { // see recordingName for those of lists
		"*RecordingUrl",                                                          // [S1] [S2] [N3]
		"*CallRecordings",                                                        // [S3]
		"*RecordingUrlList",                                                      // [P3]
		"*recordings",                                                            // [N1]
		"*voice_log",                                                             // [N3]
		"call_details[recording][url]", "response[call_details][recording][url]", // [N6]
	},
	fieldRecordingSeconds: {"*RecordingDuration"}, // [N3]; captures of status callbacks have it too
	fieldAgent:            {"AgentEmail"},         // [P1]
	fieldDialled:          {"*DialWhomNumber"},    // [S2] [S3]
	fieldFlow:             {"flow_id"},            // [S2]
	fieldStreamSID:        {"Stream[StreamSID]"},  // [S4]; stream_sid in the messages of a stream
	fieldStreamStatus:     {"Stream[Status]"},     // [S4], as the following
	fieldStreamSeconds:    {"Stream[Duration]"},
	fieldStreamBy:         {"Stream[DisconnectedBy]"},
	fieldStreamError:      {"Stream[Error]"},
	fieldStreamDetail:     {"Stream[DetailedStatus]"},
	fieldStreamURL:        {"Stream[StreamUrl]"},
	fieldStreamRecording:  {"Stream[RecordingUrl]"},
	fieldUnused: {
		"digits", "DialCallDuration", // [S2]
		"ForwardedFrom", "ProcessStatus", "tenant_id", "OutgoingPhoneNumber", "CallerId", "CallDuration", // [S2] [P1]
		"CustomerId", "AppId", "AppUserID", "AccountDomain", "TicketId", "TotalDuration", // [S3]
		"app_name", "user_id", "device", // [N1], [N4]
		"Duration", "Price", "Uri", "CallerName", "AnsweredBy", "ParentCallSid", "PreSignedRecordingUrl",
		// Call Details
		"call_sids",  // [N5]
		"action_sid", // [N2]
	},
}

// legField is a fact about a leg.
type legField uint8

// The fields of a leg.
const (
	legNumber legField = iota
	legStatus
	legTalk
	legCauseCode
	legRecording
	legID
	legFieldCount
)

// legSpellings are the names below Legs[n], or Legs[n][Leg] in Call Details.
var legSpellings = [legFieldCount][]string{
	legNumber:    {"Number", "dialed_number", "contact_uri"},                 // [P1], captures, [S5]
	legStatus:    {"Status", "Insights[Status]", "Insights[DialCallStatus]"}, // [S1], captures
	legTalk:      {"OnCallDuration", "talk_time"},                            // [S1], [S5]
	legCauseCode: {"CauseCode"},                                              // [P1]
	legRecording: {"RecordingUrl", "Url"},                                    // [P3]
	legID:        {"Id"},                                                     // Call Details, v1
}

// statuses are the spellings of a state. A status that is absent here is unknown. Words are compared as names are:
// no-answer stands for No Answer, NO_ANSWER and noAnswer too.
var statuses = foldedTable(map[string]State{
	"queued":              StateQueued,     // [S2]
	"initiated":           StateQueued,     // legs API
	"connecting":          StateQueued,     // leg_connecting [N2]
	"ringing":             StateRinging,    // [S2]
	"in-progress":         StateInProgress, // [S2]
	"answered":            StateInProgress, // leg_answered [N2], CallDetail [S3]
	"active":              StateInProgress, // CallState [S3]
	"completed":           StateCompleted,  // [S1]
	"call-completed":      StateCompleted,  // DetailedStatus, captures
	"ended":               StateCompleted,  // legs API, as the following
	"terminated":          StateCompleted,
	"disconnected":        StateCompleted,
	"busy":                StateBusy,     // [S1]
	"user-busy":           StateBusy,     // CauseCode, captures, [S6]
	"rejected":            StateBusy,     // as captures have it: USER_BUSY and busy of a call that the callee rejects
	"call-rejected":       StateBusy,     // CauseCode [S6]
	"to-leg-busy":         StateBusy,     // by the pattern of the following
	"from-leg-busy":       StateBusy,     // by the pattern of the following
	"customer-busy":       StateBusy,     // by the pattern of the following
	"agent-busy":          StateBusy,     // by the pattern of the following
	"no-answer":           StateNoAnswer, // [S1]; no_answer in ExoML [N2]
	"not-answered":        StateNoAnswer, // clients
	"no-user-response":    StateNoAnswer, // CauseCode [S6], as the following
	"ring-timeout":        StateNoAnswer,
	"ringing-timeout":     StateNoAnswer,
	"missed":              StateNoAnswer, // [P2]
	"missed-call":         StateNoAnswer, // [S7]
	"unanswered":          StateNoAnswer, // the short form of the following
	"to-leg-unanswered":   StateNoAnswer, // [N1]; also sent when the customer rejects the call
	"from-leg-unanswered": StateNoAnswer, // [N1]
	"customer-unanswered": StateNoAnswer, // [N6]
	"agent-unanswered":    StateNoAnswer, // [N6]
	"failed":              StateFailed,   // [S1]
	"to-leg-failed":       StateFailed,   // by the pattern of the following
	"from-leg-failed":     StateFailed,   // by the pattern of the following
	"customer-failed":     StateFailed,   // by the pattern of the following
	"agent-failed":        StateFailed,   // by the pattern of the following
	"to-leg-no-dial":      StateFailed,   // [N1]
	"from-leg-no-dial":    StateFailed,   // [N1]
	"customer-no-dial":    StateFailed,   // [N6]
	"agent-no-dial":       StateFailed,   // [N6]
	"canceled":            StateCanceled, // [S1]
	"cancelled":           StateCanceled, // [P2]
	"client-hangup":       StateCanceled, // CallType [S2]
	"originator-cancel":   StateCanceled, // CauseCode [S6]
	"from-leg-cancelled":  StateCanceled, // [N1]
	"from-leg-canceled":   StateCanceled, // [P2]
	"to-leg-cancelled":    StateCanceled, // by the pattern of the former
	"to-leg-canceled":     StateCanceled, // by the pattern of the former
	"agent-canceled":      StateCanceled, // [N6]
	"agent-cancelled":     StateCanceled, // [N6]
	"customer-canceled":   StateCanceled, // by the pattern of the former
	"customer-cancelled":  StateCanceled, // by the pattern of the former
})

// presences are statuses of an agent, of whom a notification with EventType=Dial tells while the call rings [P1] [P2].
var presences = map[string]bool{"busy": true, "free": true}

// eventTypes are the types of events. terminal is the one that ends a call.
var eventTypes = foldedTable(map[string]bool{
	eventTerminal:            true, // [S1]
	eventAnswered:            true, // [S1]
	eventRinging:             true, // Connect Voice AI
	eventDial:                true, // [P1]
	"initiated":              true, // dial_passthru_event_url of a Connect applet
	"completed":              true, // as the former
	"recording_stop_success": true, // CallDetail [S3]
	"active":                 true, // CallDetail [S3]
	"stream-start":           true, // Passthru as POST [N]
	"stream-stop":            true, // Passthru as POST [N]
})

// inContext are the fields with names that an address or a flow may use too. They are read only in a notification of
// WebRTC or of a campaign: see values.resolveContext.
var inContext = [fieldCount]bool{
	fieldNotification:     true,
	fieldNotificationTime: true,
	fieldCampaign:         true,
	fieldCampaignNumber:   true,
}

// notifications are the types of events of WebRTC [N4]. Another event=... may be a parameter of the address that Exotel
// was given, and is not read.
var notifications = map[string]bool{
	"incoming_call":  true,
	"outbound_call":  true,
	"call_ringing":   true,
	"call_answered":  true,
	"call_completed": true,
}

// Types of events that say something about the call's state.
const (
	eventTerminal = "terminal"
	eventAnswered = "answered"
	eventRinging  = "ringing"
	eventDial     = "dial"
)

// goingOn are the types of events of a call that goes on: where the status is busy, the agent is.
var goingOn = map[string]bool{eventDial: true, eventRinging: true, eventAnswered: true}

// callTypes are what a flow made of a call [S2].
var callTypes = foldedTable(map[string]bool{
	"call-attempt":  true,
	"completed":     true,
	"client-hangup": true,
	"incomplete":    true,
	"voicemail":     true,
})

// directions are the spellings of a call's direction.
var directions = foldedTable(map[string]string{
	"inbound":       "inbound",       // [S1]
	"incoming":      "inbound",       // [S2]
	"outbound":      "outbound-api",  // [S3] [N1]: such calls are made through the API
	"outbound-api":  "outbound-api",  // [S1]
	"outbound-dial": "outbound-dial", // [S1] [S2]
})

// noRecording are the words that stand for an absent recording, in addition to null. They come from clients
// that write what their language prints for it: None of Python, false of PHP.
var noRecording = map[string]bool{
	"none":      true,
	"n/a":       true,
	"na":        true,
	"nan":       true,
	"false":     true,
	"nil":       true,
	"undefined": true,
	"-":         true,
	"0":         true,
	"[]":        true,
	"{}":        true,
}
