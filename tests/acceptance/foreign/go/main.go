// A Go client that knows nothing of Penstock: franz-go with its registry client, and hamba/avro.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/hamba/avro/v2"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sr"
)

const deadline = 60 * time.Second

// event is the generic schema as a Go service would declare it.
type event struct {
	EventID        string    `avro:"event_id" json:"event_id"`
	EventType      string    `avro:"event_type" json:"event_type"`
	OccurredAt     time.Time `avro:"occurred_at" json:"occurred_at"`
	ActorType      *string   `avro:"actor_type" json:"actor_type"`
	ActorID        *string   `avro:"actor_id" json:"actor_id"`
	EntityID       string    `avro:"entity_id" json:"entity_id"`
	TenantID       string    `avro:"tenant_id" json:"tenant_id"`
	CorrelationID  *string   `avro:"correlation_id" json:"correlation_id"`
	CausationID    *string   `avro:"causation_id" json:"causation_id"`
	SchemaVersion  int       `avro:"schema_version" json:"schema_version"`
	IdempotencyKey *string   `avro:"idempotency_key" json:"idempotency_key"`
	ContentHash    *[]byte   `avro:"content_hash" json:"content_hash"`
	Payload        string    `avro:"payload" json:"payload"`
	Metadata       string    `avro:"metadata" json:"metadata"`
}

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	registry, err := sr.NewClient(sr.URLs(os.Args[2]))
	check(err)
	switch os.Args[1] {
	case "read":
		count, err := strconv.Atoi(os.Args[5])
		check(err)
		read(ctx, registry, os.Args[3], os.Args[4], count)
	case "write":
		write(ctx, registry, os.Args[3], os.Args[4], os.Args[5])
	case "registry":
		ask(ctx, registry, os.Args[3], os.Args[4], os.Args[5])
	}
}

// read prints the first records of a topic as JSON, one a line.
func read(ctx context.Context, registry *sr.Client, kafka, topic string, count int) {
	client, err := kgo.NewClient(kgo.SeedBrokers(kafka), kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	check(err)
	defer client.Close()
	var header sr.ConfluentHeader
	for found := 0; found < count; {
		fetches := client.PollFetches(ctx)
		check(fetches.Err())
		for _, record := range fetches.Records() {
			id, body, err := header.DecodeID(record.Value)
			check(err)
			schema, err := registry.SchemaByID(ctx, id)
			check(err)
			parsed, err := avro.Parse(schema.Schema)
			check(err)
			var value map[string]any
			check(avro.Unmarshal(parsed, body, &value))
			say(value)
			found++
		}
	}
}

// write registers the schema and writes a record for each line of stdin.
func write(ctx context.Context, registry *sr.Client, kafka, topic, text string) {
	client, err := kgo.NewClient(kgo.SeedBrokers(kafka), kgo.DefaultProduceTopic(topic))
	check(err)
	defer client.Close()
	parsed, err := avro.Parse(text)
	check(err)
	registered, err := registry.CreateSchema(ctx, topic+"-value", sr.Schema{Schema: text, Type: sr.TypeAvro})
	var refused *sr.ResponseError
	if errors.As(err, &refused) {
		log.Fatal(refused.Message)
	}
	check(err)
	var serde sr.Serde
	serde.Register(registered.ID, event{}, sr.EncodeFn(func(v any) ([]byte, error) { return avro.Marshal(parsed, v) }))
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var value event
		check(json.Unmarshal(lines.Bytes(), &value))
		record := &kgo.Record{Key: []byte(value.EntityID), Value: serde.MustEncode(value)}
		check(client.ProduceSync(ctx, record).FirstErr())
		say([]int64{int64(record.Partition), record.Offset})
	}
	check(lines.Err())
}

// ask goes through what franz-go's client can ask for and prints the answers as one object.
func ask(ctx context.Context, registry *sr.Client, subject, first, breaking string) {
	said := map[string]any{}
	_, err := registry.SchemaByVersion(ctx, subject, -1)
	said["unknown"] = code(err)
	created, err := registry.CreateSchema(ctx, subject, sr.Schema{Schema: first})
	check(err)
	said["id"], said["version"] = created.ID, created.Version
	found, err := registry.LookupSchema(ctx, subject, sr.Schema{Schema: first})
	check(err)
	said["looked up"] = found.ID
	text, err := registry.SchemaTextByID(ctx, created.ID)
	check(err)
	said["same text"] = text == first
	latest, err := registry.SchemaByVersion(ctx, subject, -1)
	check(err)
	said["latest"] = latest.Version
	said["types"], err = registry.SupportedTypes(ctx)
	check(err)
	verdict, err := registry.CheckCompatibility(sr.WithParams(ctx, sr.Verbose), subject, -1, sr.Schema{Schema: breaking})
	check(err)
	said["compatible"], said["reasons"] = verdict.Is, len(verdict.Messages) > 0
	_, err = registry.RegisterSchema(ctx, subject, sr.Schema{Schema: breaking}, -1, -1)
	said["refused"] = code(err)
	set := registry.SetCompatibility(ctx, sr.SetCompatibility{Level: sr.CompatNone}, subject)
	check(set[0].Err)
	got := registry.Compatibility(ctx, subject)
	check(got[0].Err)
	said["level"] = got[0].Level.String()
	_, err = registry.RegisterSchema(ctx, subject, sr.Schema{Schema: breaking}, -1, -1)
	check(err)
	said["versions"], err = registry.SubjectVersions(ctx, subject)
	check(err)
	subjects, err := registry.Subjects(ctx)
	check(err)
	said["subjects"] = strings.Join(subjects, ",")
	say(said)
}

func code(err error) int {
	var refused *sr.ResponseError
	if errors.As(err, &refused) {
		return refused.ErrorCode
	}
	return 0
}

func say(value any) {
	text, err := json.Marshal(value)
	check(err)
	fmt.Println(string(text))
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
