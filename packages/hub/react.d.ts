import type { HTMLAttributes, ReactElement } from "react";
import type { HubAccount, HubError, HubTheme } from "./index.js";

export interface MooringHubProps extends Omit<HTMLAttributes<HTMLElement>, "onError" | "onClose"> {
  /** The token of a connect session. */
  token: string;
  /** The address of your Mooring. */
  baseUrl: string;
  provider?: string;
  accountId?: string;
  theme?: HubTheme;
  lang?: string;
  onSuccess?: (account: HubAccount) => void;
  onClose?: () => void;
  onError?: (error: HubError) => void;
}

export declare function MooringHub(props: MooringHubProps): ReactElement;
