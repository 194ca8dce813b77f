/** An account that was linked. */
export interface HubAccount {
  id: string;
  /** The connector's key, such as `bamboohr`. */
  provider: string;
}

/** What went wrong, with a stable code. See docs/errors.md of Mooring. */
export interface HubError {
  code: string;
  message: string;
}

export type HubTheme = "auto" | "light" | "dark";

/** `<mooring-hub token="…">`. */
export interface MooringHubElement extends HTMLElement {
  /** The token of a connect session. As a property it is in no markup. */
  token: string;
  onSuccess?: ((account: HubAccount) => void) | null;
  onClose?: (() => void) | null;
  onError?: ((error: HubError) => void) | null;
  addEventListener(type: "success", listener: (event: CustomEvent<HubAccount>) => void): void;
  addEventListener(type: "close", listener: (event: CustomEvent<undefined>) => void): void;
  addEventListener(type: "error", listener: (event: CustomEvent<HubError>) => void): void;
  addEventListener(type: string, listener: EventListenerOrEventListenerObject, options?: boolean | AddEventListenerOptions): void;
}

declare global {
  interface HTMLElementTagNameMap {
    "mooring-hub": MooringHubElement;
  }
}
