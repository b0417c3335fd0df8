import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.time.Instant;
import java.time.temporal.ChronoUnit;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.UUID;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import org.apache.flink.avro.registry.confluent.shaded.io.confluent.kafka.schemaregistry.avro.AvroSchema;
import org.apache.flink.avro.registry.confluent.shaded.io.confluent.kafka.schemaregistry.client.CachedSchemaRegistryClient;
import org.apache.flink.avro.registry.confluent.shaded.io.confluent.kafka.schemaregistry.client.rest.exceptions.RestClientException;
import org.apache.flink.avro.shaded.org.apache.avro.Schema;
import org.apache.flink.avro.shaded.org.apache.avro.generic.GenericDatumReader;
import org.apache.flink.avro.shaded.org.apache.avro.generic.GenericRecord;
import org.apache.flink.avro.shaded.org.apache.avro.generic.GenericRecordBuilder;
import org.apache.flink.avro.shaded.org.apache.avro.io.DecoderFactory;
import org.apache.flink.formats.avro.registry.confluent.ConfluentRegistryAvroDeserializationSchema;
import org.apache.flink.formats.avro.registry.confluent.ConfluentRegistryAvroSerializationSchema;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.PartitionInfo;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** Reads and writes a topic of Avro records by libraries that know nothing of Penstock. Results go to stdout, one line each. */
public final class ForeignClient {
  private static final Duration DEADLINE = Duration.ofSeconds(60);
  private static final int CACHED_SCHEMAS = 100;

  public static void main(String[] args) throws Exception {
    String command = args[0];
    String registry = args[1];
    switch (command) {
      case "read" -> read(registry, args[2], args[3], Integer.parseInt(args[4]));
      case "write" -> write(registry, args[2], args[3], args[4]);
      case "example" -> example(registry, args[2], args[3], args[4]);
      case "registry" -> registry(registry, args[2], args[3], args[4]);
      default -> throw new IllegalArgumentException(command);
    }
  }

  /** Prints `schema id TAB record as JSON` for the first {@code wanted} records. */
  private static void read(String registry, String kafka, String topic, int wanted) throws Exception {
    CachedSchemaRegistryClient client = new CachedSchemaRegistryClient(registry, CACHED_SCHEMAS);
    Map<Integer, ConfluentRegistryAvroDeserializationSchema<GenericRecord>> readers = new HashMap<>();
    Instant end = Instant.now().plus(DEADLINE);
    int found = 0;
    try (KafkaConsumer<byte[], byte[]> consumer =
        new KafkaConsumer<>(settings(kafka), new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
      List<PartitionInfo> partitions = consumer.partitionsFor(topic, DEADLINE);
      List<TopicPartition> all =
          partitions.stream().map(p -> new TopicPartition(topic, p.partition())).toList();
      consumer.assign(all);
      consumer.seekToBeginning(all);
      while (found < wanted && Instant.now().isBefore(end)) {
        for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(200))) {
          int id = ByteBuffer.wrap(record.value()).getInt(1);
          if (!readers.containsKey(id)) {
            Schema schema = (Schema) client.getSchemaById(id).rawSchema();
            readers.put(id, ConfluentRegistryAvroDeserializationSchema.forGeneric(schema, registry));
          }
          System.out.println(id + "\t" + readers.get(id).deserialize(record.value()));
          found++;
        }
      }
    }
    if (found < wanted) {
      throw new IllegalStateException("only " + found + " of " + wanted + " records within " + DEADLINE);
    }
  }

  /** Writes a record for each `key TAB record in Avro's JSON` of stdin; prints `partition TAB offset` of each. */
  private static void write(String registry, String kafka, String topic, String schemaText) throws Exception {
    Schema schema = new Schema.Parser().parse(schemaText);
    ConfluentRegistryAvroSerializationSchema<GenericRecord> serializer =
        ConfluentRegistryAvroSerializationSchema.forGeneric(topic + "-value", schema, registry);
    GenericDatumReader<GenericRecord> json = new GenericDatumReader<>(schema);
    BufferedReader input = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    try (KafkaProducer<byte[], byte[]> producer =
        new KafkaProducer<>(settings(kafka), new ByteArraySerializer(), new ByteArraySerializer())) {
      for (String line = input.readLine(); line != null; line = input.readLine()) {
        String[] parts = line.split("\t", 2);
        GenericRecord record = json.read(null, DecoderFactory.get().jsonDecoder(schema, parts[1]));
        byte[] key = parts[0].getBytes(StandardCharsets.UTF_8);
        Future<RecordMetadata> sent = producer.send(new ProducerRecord<>(topic, key, serializer.serialize(record)));
        RecordMetadata place = sent.get(DEADLINE.toSeconds(), TimeUnit.SECONDS);
        System.out.println(place.partition() + "\t" + place.offset());
      }
    }
  }

  /** Writes one event, as docs/schemas.md shows it. */
  private static void example(String registry, String kafka, String topic, String schemaText) throws Exception {
    try (KafkaProducer<byte[], byte[]> producer =
        new KafkaProducer<>(settings(kafka), new ByteArraySerializer(), new ByteArraySerializer())) {
      Schema schema = new Schema.Parser().parse(schemaText);
      var serializer = ConfluentRegistryAvroSerializationSchema.forGeneric(topic + "-value", schema, registry);
      GenericRecord event = new GenericRecordBuilder(schema)
          .set("event_id", UUID.randomUUID().toString())
          .set("event_type", "order.placed")
          .set("occurred_at", ChronoUnit.MICROS.between(Instant.EPOCH, Instant.now()))
          .set("entity_id", "42")
          .set("payload", "{\"amount\": \"9.90\"}")
          .build();
      producer.send(new ProducerRecord<>(topic, "42".getBytes(StandardCharsets.UTF_8), serializer.serialize(event)));
    }
  }

  /** Goes through what Confluent's client can ask for; prints `question TAB answer`. */
  private static void registry(String registry, String subject, String first, String breaking) throws Exception {
    CachedSchemaRegistryClient client = new CachedSchemaRegistryClient(registry, CACHED_SCHEMAS);
    AvroSchema schema = new AvroSchema(first);
    say("unknown", refusal(() -> client.getLatestSchemaMetadata(subject)));
    int id = client.register(subject, schema);
    say("id", id);
    client.reset();
    say("id again", client.getId(subject, schema));
    say("version", client.getVersion(subject, schema));
    say("versions", client.getAllVersions(subject));
    say("subjects of id", client.getAllSubjectsById(id));
    say("versions of id", client.getAllVersionsById(id).iterator().next().getVersion());
    say("same schema", client.getSchemaById(id).equals(schema));
    say("latest", client.getLatestSchemaMetadata(subject).getVersion());
    say("compatible", client.testCompatibility(subject, new AvroSchema(breaking)));
    say("why not", client.testCompatibilityVerbose(subject, new AvroSchema(breaking)).isEmpty());
    say("refused", refusal(() -> client.register(subject, new AvroSchema(breaking))));
    say("level", client.updateCompatibility(subject, "NONE") + " " + client.getCompatibility(subject));
    client.register(subject, new AvroSchema(breaking));
    say("versions after", client.getAllVersions(subject));
    say("all subjects", client.getAllSubjects().contains(subject));
  }

  private interface Attempt {
    Object run() throws Exception;
  }

  private static int refusal(Attempt attempt) throws Exception {
    try {
      attempt.run();
      return 0;
    } catch (RestClientException error) {
      return error.getErrorCode();
    }
  }

  private static void say(String question, Object answer) {
    System.out.println(question + "\t" + answer);
  }

  private static Properties settings(String kafka) {
    Properties settings = new Properties();
    settings.put("bootstrap.servers", kafka);
    settings.put("acks", "all");
    return settings;
  }
}
