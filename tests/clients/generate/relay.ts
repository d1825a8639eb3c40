// The operations of an app with Relay: a list that is loaded page by page, an entity that is fetched again by its id, a
// mutation that prepends to the list, and the feed. The relay-compiler reads this file, and it is never run.
declare function graphql(parts: TemplateStringsArray): unknown;

export const list = graphql`
  fragment relay_list on Query
  @argumentDefinitions(first: { type: "Int", defaultValue: 50 }, after: { type: "String" }, filter: { type: "EventFilter" })
  @refetchable(queryName: "relayListQuery") {
    events(first: $first, after: $after, filter: $filter) @connection(key: "relay_events") {
      edges { node { ...relay_entry } }
    }
  }
`;

export const entry = graphql`
  fragment relay_entry on Event @refetchable(queryName: "relayEntryQuery") {
    id version timestamp notes properties eventType { name color }
  }
`;

export const page = graphql`query relayPageQuery { ...relay_list viewer { userId } }`;

export const create = graphql`
  mutation relayCreateMutation($event: EventInput!, $connections: [ID!]!) {
    createEvent(input: { event: $event }) {
      result {
        outcome
        problem { code }
        event @prependNode(connections: $connections, edgeTypeName: "EventEdge") { ...relay_entry }
      }
    }
  }
`;

export const follow = graphql`
  subscription relayFollowSubscription($after: Cursor) {
    changes(after: $after) { cursor reset changes { entityId deleted event { ...relay_entry } } }
  }
`;
