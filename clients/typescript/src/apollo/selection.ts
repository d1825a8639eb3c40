// Reads arguments from a GraphQL document, and shapes an object as a selection asks.

import type { DocumentNode, FieldNode, SelectionSetNode, ValueNode } from 'graphql';

type Variables = Record<string, unknown>;

export function argumentsOf(field: FieldNode, variables: Variables): Record<string, unknown> {
  return Object.fromEntries((field.arguments ?? []).map(({ name, value }) => [name.value, valueOf(value, variables)]));
}

function valueOf(node: ValueNode, variables: Variables): unknown {
  switch (node.kind) {
    case 'Variable':
      return variables[node.name.value];
    case 'NullValue':
      return null;
    case 'IntValue':
    case 'FloatValue':
      return Number(node.value);
    case 'ListValue':
      return node.values.map((value) => valueOf(value, variables));
    case 'ObjectValue':
      return Object.fromEntries(node.fields.map(({ name, value }) => [name.value, valueOf(value, variables)]));
    default:
      return node.value;
  }
}

/** The parts of `value` that a selection names, under their aliases. A field that `value` does not have is null. */
export function project(document: DocumentNode, { selections }: SelectionSetNode, value: Record<string, unknown>, variables: Variables): Record<string, unknown> {
  const shaped: Record<string, unknown> = {};
  for (const selection of selections) {
    if (isSkipped(selection, variables)) continue;
    if (selection.kind === 'Field') {
      const key = (selection.alias ?? selection.name).value;
      shaped[key] = shape(document, selection, value[selection.name.value] ?? null, variables);
    } else {
      const fragment = selection.kind === 'InlineFragment' ? selection : fragmentOf(document, selection.name.value);
      const condition = fragment.typeCondition?.name.value;
      const fits = condition === undefined || condition === value.__typename || condition === 'WriteResult' || condition === 'Node';
      if (fits) Object.assign(shaped, project(document, fragment.selectionSet, value, variables));
    }
  }
  return shaped;
}

function shape(document: DocumentNode, { selectionSet }: FieldNode, value: unknown, variables: Variables): unknown {
  if (!selectionSet || value === null) return value;
  if (Array.isArray(value)) return value.map((item) => project(document, selectionSet, item, variables));
  return project(document, selectionSet, value as Record<string, unknown>, variables);
}

function fragmentOf({ definitions }: DocumentNode, name: string) {
  for (const definition of definitions) if (definition.kind === 'FragmentDefinition' && definition.name.value === name) return definition;
  throw new TypeError(`there is no fragment ${name}`);
}

function isSkipped({ directives }: { directives?: FieldNode['directives'] }, variables: Variables): boolean {
  return (directives ?? []).some((directive) => {
    const condition = directive.arguments?.find(({ name }) => name.value === 'if');
    const isTrue = condition && valueOf(condition.value, variables) === true;
    return directive.name.value === 'skip' ? isTrue : directive.name.value === 'include' ? !isTrue : false;
  });
}
